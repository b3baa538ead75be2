//! One round of checks, what is known from round to round, and what the Node is told of it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::config::HealthConfig;
use crate::frr::vty::Vty;
use crate::health::node::{CONDITION, NodeClient, TaintChange, UNREADY, condition, next_change};
use crate::health::probes::Progress;
use crate::health::{Check, Readiness, Round, daemons, link_faults, session_faults};
use crate::link::netlink::Netlink;
use crate::trigger::{Once, with_causes};

/// Between two rounds while a taint waits for the checks to pass.
pub(super) const SOON: Duration = Duration::from_secs(2);
/// Between two changes of taints: somebody may bring back at once what goes.
const TAINTS_REST: Duration = Duration::from_secs(2);
/// How long after a round of checks taints are changed by it.
const ROUND_PROVES: Duration = Duration::from_secs(5);
/// How long after targets were tried a taint goes by that.
const REACHED_PROVES: Duration = Duration::from_secs(5);
/// Between two messages of the condition, and between two lines of the log, about the same checks.
const CONDITION_RESTS: Duration = Duration::from_secs(30);
const LOG_RESTS: Duration = Duration::from_secs(300);
/// So often in a row a watch may break off before that is told.
const CUTS: u32 = 2;

/// Where the checks look.
pub(super) struct Checks {
    /// The unit that runs FRR; nothing where FRR is somebody else's.
    pub(super) unit: Option<daemons::Unit>,
    pub(super) links: Netlink,
    pub(super) progress: watch::Receiver<Progress>,
}

impl Checks {
    /// All checks but for reachability, which is what was found last.
    pub(super) async fn round(&self, known: &Known) -> Round {
        let HealthConfig { interfaces, reachability, bgp_neighbors, .. } = &known.config;
        let (vty, vrfs) = (Vty::default(), self.progress.borrow().vrfs.clone());
        let frr = async {
            match &self.unit {
                Some(unit) => daemons::faults(unit, &vty).await,
                None => Vec::new(),
            }
        };
        let links = async {
            if interfaces.is_empty() {
                return Vec::new();
            }
            self.links
                .operational()
                .await
                .map_or_else(|error| vec![with_causes(&error)], |seen| link_faults(interfaces, &seen))
        };
        let sessions = async {
            if bgp_neighbors.is_empty() {
                return Vec::new();
            }
            daemons::sessions(&vty).await.map_or_else(|fault| vec![fault], |seen| session_faults(bgp_neighbors, &seen))
        };
        let (frr, links, sessions, vnis) = tokio::join!(frr, links, sessions, daemons::vni_faults(&vty, &vrfs));
        let mut round = Round::default();
        match &known.reached {
            Some(reached) => round.add(Check::Reachability, reached.faults.clone()),
            None if reachability.is_empty() => round.add(Check::Reachability, Vec::new()),
            None => round.add_pending(Check::Reachability),
        }
        round.add(Check::HealthFile, known.fault.clone().into_iter().collect());
        // As it is now: a run may have ended meanwhile.
        round.add(Check::Verified, self.progress.borrow().unverified().into_iter().collect());
        let with_frr = self.unit.is_some().then_some([(Check::Frr, frr), (Check::Vnis, vnis)]);
        let others = [(Check::Interfaces, links), (Check::BgpSessions, sessions)];
        for (check, faults) in with_frr.into_iter().flatten().chain(others) {
            round.add(check, faults);
        }
        round
    }
}

/// What was found when all targets were last tried.
pub(super) struct Reached {
    /// When the last of them had answered, or not.
    pub(super) at: Instant,
    pub(super) faults: Vec<String>,
}

/// What is known from round to round.
#[derive(Default)]
pub(super) struct Known {
    pub(super) config: HealthConfig,
    /// Why the health file as it is is not gone by.
    pub(super) fault: Option<String>,
    /// Nothing before the targets have been tried.
    pub(super) reached: Option<Reached>,
    readiness: Readiness,
    round: Round,
    /// When a bad round last counted.
    counted: Option<Instant>,
    /// When the first of the bad rounds ended that have come in a row.
    grave_since: Option<Instant>,
    /// Whether a run has ended since the agent began.
    ended: bool,
    /// The Node, as the API server told of it last.
    node: Option<Node>,
    /// When taints were last changed.
    changed: Option<Instant>,
    /// What the condition says that fails, and since when.
    said: Option<(Subjects, Instant)>,
    /// What fails, as the log has it.
    failing: BTreeSet<Check>,
    logged: Option<(Subjects, Instant)>,
    told: Once,
    heard: Once,
    /// How often in a row nothing could be heard of the Node.
    deaf: u32,
}

type Subjects = Vec<(Check, String)>;

fn current(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == CONDITION)
}

impl Known {
    /// The health file was read: what its checks find is not known yet.
    pub(super) fn asks_anew(&mut self) {
        self.reached = None;
        self.readiness = self.readiness.in_doubt();
    }

    /// Whether targets are to be tried of which nothing is known.
    pub(super) fn is_pending(&self) -> bool {
        self.reached.is_none() && !self.config.reachability.is_empty()
    }

    /// When the next round is due, after one that has ended now. While a taint waits for the checks it is soon: what they look at mostly
    /// tells nobody when it is mended.
    pub(super) fn next_round(&self, now: Instant) -> Instant {
        let keys = &self.config.taints;
        let taints = self.node.as_ref().and_then(|node| node.spec.as_ref()?.taints.as_ref());
        let waits =
            taints.is_some_and(|seen| seen.iter().any(|taint| keys.contains(&taint.key) || taint.key == UNREADY));
        let soon = waits && !self.readiness.passes();
        now + if soon { SOON.min(self.config.interval) } else { self.config.interval }
    }

    /// Whether targets are to be tried again now, in a round that is due: silent hosts, and all that nothing was heard of for a while.
    pub(super) fn wants_trial(&self, now: Instant) -> bool {
        let again =
            |reached: &Reached| !reached.faults.is_empty() || now.duration_since(reached.at) >= self.config.interval;
        !self.config.reachability.is_empty() && self.reached.as_ref().is_none_or(again)
    }

    /// Gives whether there is a reason for a round of checks: no taint goes by what was found a while ago.
    pub(super) fn hear(&mut self, event: watcher::Result<Node>) -> bool {
        match event {
            Ok(node) => {
                self.deaf = 0;
                if self.heard.is_over() {
                    tracing::info!("this Node is heard of again");
                }
                let first = self.node.is_none();
                let was_ready = current(&node).is_some_and(|condition| condition.status == "True");
                self.readiness = self.readiness.or_as_before(first && was_ready);
                self.node = Some(node);
                first || self.change().is_some()
            }
            Err(error) => {
                // A connection that somebody cuts is made again.
                self.deaf += 1;
                let error = with_causes(&error);
                if self.deaf > CUTS && self.heard.is_news(&error) {
                    tracing::warn!(%error, "nothing is heard of this Node; the service account needs get, list and watch on nodes");
                }
                false
            }
        }
    }

    /// What is to be done to the taints.
    fn change(&self) -> Option<TaintChange> {
        let HealthConfig { taints, taint_when_unready, .. } = &self.config;
        let seen = self.node.as_ref()?.spec.as_ref().and_then(|spec| spec.taints.as_deref());
        next_change(seen, |key| taints.contains(key), self.readiness, *taint_when_unready)
    }

    /// Goes by a round.
    pub(super) fn judge(&mut self, round: Round, progress: &Progress, now: Instant) {
        let spaced = self.counted.is_none_or(|last| now.duration_since(last) >= self.config.interval);
        // What a run is about to change is no fault yet, unless the row of bad rounds began before it. A first run mends what a reboot
        // has left.
        let excused = progress
            .under_way
            .is_some_and(|began| !progress.ended() || self.grave_since.is_none_or(|since| began <= since));
        let counts = spaced && !excused;
        if round.is_grave() {
            self.grave_since.get_or_insert(now);
        } else if !round.is_pending() {
            self.grave_since = None;
        }
        let before = self.readiness;
        self.readiness = before.after(&round, counts, self.config.failures);
        if round.passed() {
            self.counted = None;
        } else if counts && round.is_grave() {
            self.counted = Some(now);
        }
        self.ended = progress.ended();
        self.round = round;
        self.log(before);
    }

    fn log(&mut self, before: Readiness) {
        let (failing, subjects, now) = (self.round.failing(), self.round.subjects(), Instant::now());
        let faults = &self.round;
        if self.round.passed() {
            if !self.failing.is_empty() || !before.is_ready() {
                tracing::info!("all checks of this node pass");
            }
            self.logged = None;
        } else if failing.is_empty() {
            return;
        } else if before.is_ready() && !self.readiness.is_ready() {
            tracing::warn!(%faults, "this node is not ready any more: its checks fail again and again");
            self.logged = Some((subjects, now));
        } else {
            // Other faults of the same checks are news after a while: hosts that answer now and then must not fill the log.
            let rests = |(said, since): &(Subjects, Instant)| *said == subjects || since.elapsed() < LOG_RESTS;
            let known = failing == self.failing && self.logged.as_ref().is_some_and(rests);
            // That the first run takes its time is no news.
            if known || !self.ended {
                return;
            }
            tracing::warn!(ready = self.readiness.is_ready(), %faults, "checks of this node fail");
            self.logged = Some((subjects, now));
        }
        self.failing = failing;
    }

    /// Brings the taints and the condition of the Node to where they should be; gives whether they are there.
    pub(super) async fn tell(&mut self, client: &NodeClient, progress: &watch::Receiver<Progress>) -> bool {
        if self.node.is_none() || self.round.checks().next().is_none() {
            return true;
        }
        let told = match self.settle(client, progress).await {
            Ok(()) => self.say(client).await,
            Err(error) => Err(error),
        };
        match told {
            Ok(()) => {
                if self.told.is_over() {
                    tracing::info!("the Node is told of the checks again");
                }
                self.change().is_none()
            }
            Err(error) => {
                let error = with_causes(&error);
                if self.told.is_news(&error) {
                    tracing::warn!(%error, "the Node cannot be told of the checks; does the service account have its rights on nodes and nodes/status?");
                }
                false
            }
        }
    }

    async fn settle(&mut self, client: &NodeClient, progress: &watch::Receiver<Progress>) -> kube::Result<()> {
        let Some(change) = self.change() else { return Ok(()) };
        if self.changed.is_some_and(|last| last.elapsed() < TAINTS_REST) {
            return Ok(());
        }
        let opens = self.readiness.passes() && matches!(change, TaintChange::Remove(..));
        if opens && self.reached.as_ref().is_some_and(|reached| reached.at.elapsed() > REACHED_PROVES) {
            self.asks_anew();
            return Ok(());
        }
        let HealthConfig { taints, taint_when_unready, .. } = &self.config;
        let begin = Instant::now();
        let holds = || begin.elapsed() < ROUND_PROVES && (!opens || progress.borrow().unverified().is_none());
        let goes = |key: &str| taints.contains(key);
        let done = client.settle_taints(goes, self.readiness, holds, *taint_when_unready).await?;
        if !done.is_empty() {
            self.changed = Some(Instant::now());
            tracing::info!(what = %done.join(", "), "changed the taints of this node");
        }
        Ok(())
    }

    async fn say(&mut self, client: &NodeClient) -> kube::Result<()> {
        let old = self.node.as_ref().and_then(current);
        let subjects = self.round.subjects();
        // An agent that begins has found nothing yet, nor has one with a new health file: what was said stands meanwhile.
        let unheard_of = self.round.is_pending() && subjects.is_empty();
        if old.is_some_and(|old| {
            (!self.ended && old.status == "True") || (unheard_of && old.status == self.readiness.status())
        }) {
            return Ok(());
        }
        let now = condition(self.readiness, &self.round, old, Timestamp::now());
        let rests = |(said, since): &(Subjects, Instant)| {
            let checks: BTreeSet<Check> = said.iter().map(|(check, _)| *check).collect();
            *said == subjects || (checks == self.round.failing() && since.elapsed() < CONDITION_RESTS)
        };
        let stands = old.is_some_and(|old| {
            let same = self.said.as_ref().map_or(old.message == now.message, rests);
            (&old.status, &old.reason) == (&now.status, &now.reason) && same
        });
        if !stands {
            client.tell(&now).await?;
        }
        if !stands || self.said.is_none() {
            self.said = Some((subjects, Instant::now()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    /// What a round found.
    #[derive(Debug, Clone, Copy)]
    enum Found {
        Good,
        Bad,
        /// Not all of it yet.
        Pending,
    }
    use Found::{Bad, Good, Pending};

    impl Found {
        fn round(self) -> Round {
            let mut round = Round::default();
            match self {
                Good => round.add(Check::Frr, Vec::new()),
                Bad => round.add(Check::Frr, vec!["bgpd does not answer".to_owned()]),
                Pending => round.add_pending(Check::Reachability),
            }
            round
        }
    }

    /// Which status is said after each round, an interval apart, while a run is under way that began so many seconds after the first
    /// round; `once` where one has verified the node before.
    fn said(once: bool, rounds: &[(Found, Option<u64>)]) -> String {
        let begin = Instant::now();
        let config = HealthConfig { interval: INTERVAL, failures: 2, ..HealthConfig::default() };
        let mut known = Known { config, ..Known::default() };
        let mut now = begin;
        rounds
            .iter()
            .map(|(found, run)| {
                let under_way = run.map(|after| begin + Duration::from_secs(after));
                known.judge(found.round(), &Progress { under_way, once, ..Progress::default() }, now);
                now += INTERVAL;
                if known.readiness.is_ready() { 'r' } else { 'u' }
            })
            .collect()
    }

    #[test]
    fn what_a_run_may_have_done_counts_once_it_has_ended() {
        let during = [(Good, None), (Bad, Some(10)), (Bad, Some(10)), (Bad, None), (Bad, None)];
        assert_eq!(said(true, &during), "rrrru");
        let between = [(Good, Some(0)), (Bad, Some(0)), (Good, Some(0)), (Bad, Some(0)), (Bad, Some(0))];
        assert_eq!(said(true, &between), "rrrrr");
    }

    #[test]
    fn what_was_so_before_a_run_counts_while_it_is_under_way() {
        // Each run waits for what hangs, fails, and is tried again.
        assert_eq!(said(true, &[(Good, None), (Bad, Some(10)), (Bad, Some(50)), (Bad, Some(80))]), "rrru");
        let before = [(Good, None), (Bad, None), (Bad, Some(50)), (Bad, Some(50))];
        assert_eq!(said(true, &before), "rruu");
        assert_eq!(said(false, &before), "rrrr", "a first run mends what a reboot has left");
        let after_a_good_one = [(Good, None), (Bad, None), (Good, Some(50)), (Bad, Some(50)), (Bad, Some(50))];
        assert_eq!(said(true, &after_a_good_one), "rrrrr");
        assert_eq!(said(true, &[(Good, None), (Bad, None), (Pending, None), (Bad, Some(70))]), "rrru");
    }
}
