//! What asked for a run.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::trigger::Trigger;
use crate::trigger::timing::{Due, Timing};

/// Triggers that no run has answered yet.
#[derive(Default)]
pub(super) struct Causes {
    triggers: BTreeSet<Trigger>,
    /// When the first change came that no run has answered.
    changed: Option<Instant>,
}

impl Causes {
    pub(super) fn add(&mut self, trigger: Trigger, timing: &mut Timing) {
        let now = Instant::now();
        timing.ask(trigger, now);
        if trigger.is_change() {
            self.changed.get_or_insert(now);
        }
        if trigger != Trigger::ServiceMoves && self.triggers.insert(trigger) {
            tracing::debug!(%trigger, "asked for a run");
        }
        if let Some(until) = timing.held_back(now) {
            let seconds = until.duration_since(now).as_secs();
            tracing::warn!(
                seconds,
                "the node was put back as often as `--repairs-per-minute` allows, and moves again: who does that? It is left alone for a while"
            );
        }
    }

    pub(super) fn has(&self, trigger: Trigger) -> bool {
        self.triggers.contains(&trigger)
    }

    /// How long the changes have waited that a run answers.
    pub(super) fn waited(&mut self, due: Due) -> Option<Duration> {
        self.changed.take_if(|_| due == Due::Change).map(|changed| changed.elapsed())
    }

    /// What a run answers, in words.
    pub(super) fn take(&mut self, due: Due) -> String {
        let (now, later) =
            std::mem::take(&mut self.triggers).into_iter().partition(|cause| due == Due::Change || !cause.is_change());
        self.triggers = later;
        let now: BTreeSet<Trigger> = now;
        now.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
