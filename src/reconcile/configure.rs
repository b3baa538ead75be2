//! Brings FRR to a text and proves it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Restored, RunError, step};
use super::goal::Goal;
use super::pipeline::{ASK_AGAIN, Pipeline, until};
use super::{ConfigPort, DaemonPort, LinkPort, PortError, Prepared, ServicePort};
use crate::frr::command::Verdict;
use crate::frr::compare::{Difference, is_ours};
use crate::frr::config::{Config, Line};
use crate::link::{LinkOp, LinkPlan};
use crate::trigger::with_causes;

/// How long a daemon may take to show what it has taken: mgmtd applies it behind its answer.
const SHOWN: Duration = Duration::from_secs(1);
/// How long what a daemon shows must stay the same after it has come back.
const SETTLED: Duration = Duration::from_secs(3);

/// What was done to FRR.
#[derive(Debug, Default)]
pub(super) struct Configured {
    pub(super) written: bool,
    pub(super) reloaded: bool,
    /// Lines that FRR did not run, or ran and should not.
    pub(super) lines: Difference,
    /// What FRR was to run.
    pub(super) meant: Config,
    /// What it runs now.
    pub(super) seen: Config,
}

/// frr.conf before the run, and the text that was last verified.
pub(super) struct Before {
    pub(super) file: Option<String>,
    pub(super) good: Option<String>,
}

impl Before {
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.file.iter().chain(&self.good).map(String::as_str)
    }

    /// What to go back to.
    pub(super) fn target(&self) -> Option<&str> {
        self.good.as_ref().or(self.file.as_ref()).map(String::as_str)
    }
}

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// The configuration goes first: bgpd crashed where a VNI appeared before its EVPN instance (FRR #22851).
    ///
    /// FRR is given the new lines before frr.conf has them: what it refuses is known by its own words then, and is undone
    /// without a reload. A reload that meets such a line stops FRR (8.4.4), or says that all is well (since 9.1).
    pub(super) async fn configure(
        &mut self,
        prepared: &Prepared,
        leaving: bool,
        unplug: &mut Vec<LinkOp>,
    ) -> Result<Configured, RunError> {
        let text = prepared.text.as_str();
        let before = Before {
            file: self.ports.config.read().map_err(step("read frr.conf"))?,
            good: self.ports.config.last_good().map_err(step("read the last good configuration"))?,
        };
        if !prepared.links.is_empty() {
            self.ports.links.may_write().await.map_err(step("begin"))?;
        }
        let written = before.file.as_deref() != Some(text);
        // What was given to FRR and never became frr.conf must go, too, where it is not meant any more.
        let goal = Goal::new(text, before.texts().chain(self.offered.as_deref()));
        // Its way back ended before FRR was up; frr.conf is the one to go back to since then.
        self.start_again().await?;
        let Some(seen) = self.seen().await? else { return self.without_frr(prepared, &before).await };
        // What FRR shows again need not be tolerated any more.
        if !self.tolerated.is_empty() {
            for line in seen.lines() {
                self.tolerated.remove(&line.key());
            }
        }
        let difference = goal.difference(&seen, &self.tolerated);
        let mapped = self.missing(&prepared.vnis, |_| true).await?.is_empty();
        if !written && !leaving && unplug.is_empty() && difference.is_empty() && mapped {
            return Ok(Configured { meant: goal.config, seen, ..Configured::default() });
        }
        if written {
            self.ports.service.running().await.map_err(step("begin"))?;
            // What FRR has run before needs no check.
            if before.good.as_deref() != Some(text) {
                self.stage(text).await?;
            }
        }
        let lines = difference.clone();
        self.offered = Some(text.to_owned());
        let left = match self.offer(&goal, &before, prepared, difference, unplug).await {
            Ok(left) => left,
            Err(error) => {
                self.ports.config.discard();
                return Err(error);
            }
        };
        if written {
            self.write(text, &before)?;
        }
        // Over the vty, too: frr-reload.py starts a process for each line that goes.
        self.take(&left.extra, &prepared.links, unplug).await?;
        // A file that says in other words what FRR runs is no news to FRR.
        let told = before.target().unwrap_or_default();
        let news = written && (!lines.is_empty() || statements(told) != statements(text));
        let reload = news || leaving || !self.difference(&goal).await?.0.is_empty();
        let result = if reload { self.reload().await? } else { Ok(()) };
        let verified = self.verify(&goal, prepared, reload, result.err());
        let seen = match self.steps.timed("verify", verified).await? {
            Ok(seen) => seen,
            Err(why) => return Err(self.not_verified(&goal, &before, prepared, why).await),
        };
        Ok(Configured { written, reloaded: reload, lines, meant: goal.config, seen })
    }

    fn write(&self, text: &str, before: &Before) -> Result<(), RunError> {
        if before.good.as_deref() == Some(text) {
            return self.ports.config.restore(text).map_err(step("write frr.conf"));
        }
        if before.good.is_none()
            && let Some(file) = &before.file
        {
            self.ports.config.keep_good(file).map_err(step("keep the configuration to go back to"))?;
        }
        self.ports.config.commit().map_err(step("write frr.conf"))
    }

    /// FRR's running configuration; `None` where frr.service does not run. Daemons that are about to come back are waited for.
    pub(super) async fn seen(&self) -> Result<Option<Config>, RunError> {
        let end = Instant::now() + self.limits.answers;
        let mut settling: Option<(Config, Instant)> = None;
        let mut waited = false;
        loop {
            let error = match self.ports.daemons.running().await {
                Ok(config) if !waited => return Ok(Some(config)),
                // One that has just come back is given its configuration by FRR's own scripts.
                Ok(config) => {
                    match &settling {
                        Some((seen, since)) if *seen == config => {
                            if since.elapsed() >= SETTLED || Instant::now() >= end {
                                return Ok(Some(config));
                            }
                        }
                        _ => settling = Some((config, Instant::now())),
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                    continue;
                }
                Err(error) => error,
            };
            (waited, settling) = (true, None);
            if !self.ports.service.running().await.map_err(step("ask for frr.service"))? {
                return Ok(None);
            }
            if Instant::now() >= end {
                return Err(step("read FRR's running configuration")(error));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// What FRR starts with next is the new text: it may be the very one that lets it start.
    async fn without_frr(&mut self, prepared: &Prepared, before: &Before) -> Result<Configured, RunError> {
        if before.file.as_ref() != Some(&prepared.text) {
            self.stage(&prepared.text).await?;
            self.write(&prepared.text, before)?;
        }
        self.ports.service.reload().await.map_err(step("reload FRR"))?;
        let source = "frr.service was stopped, and is coming up".into();
        Err(RunError::Step { step: "reload FRR", source })
    }

    /// What FRR's syntax check refuses never becomes frr.conf.
    async fn stage(&self, text: &str) -> Result<(), RunError> {
        let staged = self.ports.config.stage(text).await;
        let refused = match staged.map_err(step("check the new configuration")) {
            Ok(lines) if lines.is_empty() => return Ok(()),
            Ok(lines) => RunError::Refused { lines },
            Err(error) => error,
        };
        self.ports.config.discard();
        Err(refused)
    }

    /// Gives FRR what is missing, and gives what differs then. Where FRR refuses a new line, all is taken back.
    async fn offer(
        &mut self,
        goal: &Goal,
        before: &Before,
        prepared: &Prepared,
        difference: Difference,
        unplug: &mut Vec<LinkOp>,
    ) -> Result<Difference, RunError> {
        let mut left = difference;
        let mut refused = Vec::new();
        for taken in [false, true] {
            if taken {
                // Something may have to go first, such as a VNI from another VRF.
                self.take(&left.extra, &prepared.links, unplug).await?;
                left = self.difference(goal).await?.0;
            }
            let verdicts = self.ports.daemons.give(&left.missing).await.map_err(step("give FRR the new lines"))?;
            let verdicts: BTreeMap<Line, Verdict> = left.missing.into_iter().zip(verdicts).collect();
            left = self.shown(goal).await?;
            refused = refusals(goal, &verdicts, &left.missing);
            if refused.is_empty() || left.extra.is_empty() {
                self.tolerate(goal, &verdicts, &mut left);
                break;
            }
        }
        if refused.is_empty() {
            return Ok(left);
        }
        let restored = match before.target() {
            None => Restored::Nothing,
            Some(target) => self.converge(&Goal::new(target, [prepared.text.as_str()]), prepared).await.into(),
        };
        Err(RunError::NotTaken { lines: refused, restored })
    }

    /// Waits until what FRR has taken is shown.
    pub(super) async fn shown(&self, goal: &Goal) -> Result<Difference, RunError> {
        let left = async || Ok(self.difference(goal).await?.0);
        until(SHOWN, left, |left| left.missing.is_empty()).await
    }

    /// Lines that FRR does not show, and does not refuse as new ones, are defaults, belong to daemons that do not run, or were
    /// refused in the site's configuration before, too: they are told once and not asked for again. What is ours must be there.
    fn tolerate(&mut self, goal: &Goal, verdicts: &BTreeMap<Line, Verdict>, left: &mut Difference) {
        left.missing.retain(|line| {
            let name = line.to_string();
            match verdicts.get(line) {
                Some(Verdict::Refused(words)) if !is_refusal(goal, line) => {
                    tracing::warn!(line = name, %words, "FRR refuses a line that was in frr.conf before; it is left out");
                }
                Some(Verdict::Unknown) if !is_ours(line) => {
                    tracing::warn!(line = name, "no daemon of FRR that runs knows this line");
                }
                Some(Verdict::Taken) if !is_ours(line) || !(line.text.starts_with("vni ") || line.is_policy()) => {
                    tracing::debug!(line = name, "FRR takes this line and does not show it");
                }
                _ => return true,
            }
            self.tolerated.insert(line.key());
            false
        });
    }

    /// What must be done, and what is seen.
    pub(super) async fn difference(&self, goal: &Goal) -> Result<(Difference, Config), RunError> {
        let seen = self.ports.daemons.running().await.map_err(step("read FRR's running configuration"))?;
        Ok((goal.difference(&seen, &self.tolerated), seen))
    }

    /// Reloads. A job that failed or took too long is not the last word: what FRR runs then is.
    async fn reload(&self) -> Result<Result<(), PortError>, RunError> {
        let result = self.ports.service.reload().await;
        match result {
            Err(error) if !self.ports.service.was_tried(&error) => Err(step("reload FRR")(error)),
            result => Ok(result),
        }
    }

    /// Whether FRR runs what was meant: configuration line by line, and VNIs as zebra has them; why not, else.
    async fn verify(
        &self,
        goal: &Goal,
        prepared: &Prepared,
        reloaded: bool,
        failed: Option<PortError>,
    ) -> Result<Result<Config, String>, RunError> {
        let said = failed.map(|error| with_causes(error.as_ref()));
        // Daemons answer while systemd stops them.
        if reloaded && !self.ports.service.running().await.map_err(step("ask for frr.service"))? {
            let why = "the reload has stopped frr.service".to_owned();
            return Ok(Err(said.into_iter().chain([why]).collect::<Vec<_>>().join("; ")));
        }
        match until(SHOWN, async || Ok(self.runs(goal, prepared).await), Result::is_ok).await? {
            Ok(seen) => {
                if let Some(said) = said {
                    tracing::warn!(%said, "but FRR runs what was meant");
                }
                Ok(Ok(seen))
            }
            Err(why) => Ok(Err(said.into_iter().chain([why]).collect::<Vec<_>>().join("; "))),
        }
    }

    /// What FRR runs, if it is what was meant.
    async fn runs(&self, goal: &Goal, prepared: &Prepared) -> Result<Config, String> {
        let (left, seen) = self.difference(goal).await.map_err(|error| with_causes(&error))?;
        if !left.is_empty() {
            return Err(left.to_string());
        }
        match self.missing(&prepared.vnis, |_| true).await {
            Ok(unmapped) if unmapped.is_empty() => Ok(seen),
            Ok(unmapped) => Err(format!("zebra does not map {unmapped}")),
            Err(error) => Err(with_causes(&error)),
        }
    }

    /// Takes lines out of FRR, and links out of service before.
    async fn take(&self, lines: &[Line], links: &LinkPlan, unplug: &mut Vec<LinkOp>) -> Result<(), RunError> {
        self.unplug(unplug).await?;
        self.find_neighbors(links).await?;
        self.ports.daemons.take(lines).await.map_err(step("take lines out of FRR"))
    }
}

/// A refusal counts where the line is new, or ours.
fn is_refusal(goal: &Goal, line: &Line) -> bool {
    !goal.is_old(line) || is_ours(line)
}

/// FRR's words to lines that it refused.
fn refusals(goal: &Goal, verdicts: &BTreeMap<Line, Verdict>, missing: &[Line]) -> Vec<String> {
    let refused = missing.iter().filter(|line| is_refusal(goal, line)).filter_map(|line| match verdicts.get(line) {
        Some(Verdict::Refused(words)) => Some(format!("`{line}`: {words}")),
        _ => None,
    });
    refused.collect()
}

/// What a text says, without comments and blanks: also what the comparison leaves out, such as what only a reload applies.
fn statements(text: &str) -> BTreeSet<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['!', '#'])).collect()
}
