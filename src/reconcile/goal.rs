//! A configuration that FRR is to run, and what of a difference counts. Pure.

use std::collections::BTreeSet;

use crate::frr::compare::{Difference, is_ours};
use crate::frr::config::{Config, Line};

/// What FRR is to run.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) config: Config,
    /// Lines of the configurations that it comes from: those that are not in the goal must go.
    before: BTreeSet<Line>,
}

impl Goal {
    pub(super) fn new<'a>(text: &str, before: impl IntoIterator<Item = &'a str>) -> Self {
        let before = before.into_iter().filter(|before| *before != text);
        let before = before.flat_map(|text| Config::parse(text).lines().to_vec()).collect();
        Self { config: Config::parse(text), before }
    }

    /// Whether the line was asked for before.
    pub(super) fn is_old(&self, line: &Line) -> bool {
        self.before.contains(line)
    }

    /// What must be done to what runs. Lines that FRR is known to leave out are not missing; lines that neither we nor an
    /// earlier configuration put there are somebody's by hand, or FRR's own: they are not ours to take.
    pub(super) fn difference(&self, seen: &Config, tolerated: &BTreeSet<String>) -> Difference {
        let Difference { missing, extra } = Difference::between(&self.config, seen);
        Difference {
            missing: missing.into_iter().filter(|line| !tolerated.contains(&line.key())).collect(),
            extra: extra.into_iter().filter(|line| is_ours(line) || self.before.contains(line)).collect(),
        }
    }
}

/// Lines that a run would give FRR, and take out of it, to bring it from what it runs to a text. `before` are the texts that it
/// was brought to earlier.
pub fn frr_lines<'a>(
    text: &str,
    before: impl IntoIterator<Item = &'a str>,
    running: &Config,
    tolerated: &BTreeSet<String>,
) -> Difference {
    Goal::new(text, before).difference(running, tolerated)
}
