//! Whether a node is fit for work: what the checks found, and what is said of it. Pure; its files are the adapters.

pub mod daemons;
pub mod node;
pub mod probes;
pub mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::Pattern;

/// The kinds of checks, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The health file can be used.
    HealthFile,
    /// The last run verified that the node runs what the objects say.
    Verified,
    /// frr.service is active, and FRR's daemons answer.
    Frr,
    /// Links are operationally up.
    Interfaces,
    /// BGP sessions are established.
    BgpSessions,
    /// zebra says that the VNIs of VRFs are up.
    Vnis,
    /// Hosts can be reached.
    Reachability,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HealthFile => "health file",
            Self::Verified => "verified",
            Self::Frr => "frr",
            Self::Interfaces => "interfaces",
            Self::BgpSessions => "bgp",
            Self::Vnis => "vnis",
            Self::Reachability => "reachability",
        })
    }
}

/// What one round of checks found: the faults of each check that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    faults: BTreeMap<Check, Vec<String>>,
    /// Checks of which nothing is known yet.
    pending: BTreeSet<Check>,
}

/// So many faults of a check are named.
const NAMED: usize = 5;

impl Round {
    /// Adds what a check found.
    pub fn add(&mut self, check: Check, faults: Vec<String>) {
        self.faults.entry(check).or_default().extend(faults);
    }

    /// Adds a check that takes longer: nothing is known of it.
    pub fn add_pending(&mut self, check: Check) {
        self.pending.insert(check);
    }

    /// Whether all checks were made, and found no fault.
    pub fn passed(&self) -> bool {
        !self.is_pending() && self.faults.values().all(Vec::is_empty)
    }

    /// Whether nothing is known yet of some check.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether something fails that keeps packets from where they go: a node runs on with its last good configuration, whatever
    /// is wrong with newer ones.
    pub fn is_grave(&self) -> bool {
        let lesser = [Check::HealthFile, Check::Verified];
        self.faults.iter().any(|(check, faults)| !faults.is_empty() && !lesser.contains(check))
    }

    /// What fails, without the causes, which may change from round to round; what a run or the health file came to has one cause.
    pub fn subjects(&self) -> Vec<(Check, String)> {
        let subject = |check, fault: &str| match check {
            Check::HealthFile | Check::Verified => fault.to_owned(),
            _ => fault.split(": ").next().unwrap_or_default().to_owned(),
        };
        let all = self.faults.iter().flat_map(|(check, faults)| faults.iter().map(|fault| (*check, fault)));
        all.map(|(check, fault)| (check, subject(check, fault))).collect()
    }

    /// The checks that fail.
    pub fn failing(&self) -> BTreeSet<Check> {
        self.checks().filter(|(_, passed)| !passed).map(|(check, _)| check).collect()
    }

    /// The checks that were made, and whether each passed.
    pub fn checks(&self) -> impl Iterator<Item = (Check, bool)> + '_ {
        self.faults.iter().map(|(check, faults)| (*check, faults.is_empty()))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (check, faults) in self.faults.iter().filter(|(_, faults)| !faults.is_empty()) {
            let separator = if std::mem::take(&mut first) { "" } else { "; " };
            let named = faults.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            write!(f, "{separator}{check}: {named}")?;
            if faults.len() > NAMED {
                write!(f, " and {} more", faults.len() - NAMED)?;
            }
        }
        match self.pending.first().filter(|_| first) {
            Some(check) => write!(f, "{check}: not known yet"),
            None if first => f.write_str("all checks pass"),
            None => Ok(()),
        }
    }
}

/// What is wrong with the links that are asked for; `seen` are links by name, and whether they carry packets.
pub fn link_faults(wanted: &[Pattern], seen: &[(String, bool)]) -> Vec<String> {
    faults(wanted, seen.iter().map(|(name, up)| (name.as_str(), *up)), "there is no link", "is down")
}

/// What is wrong with the sessions that are asked for; `seen` are neighbors by name, and whether their session is established.
pub fn session_faults(wanted: &[Pattern], seen: &BTreeMap<String, bool>) -> Vec<String> {
    let seen = seen.iter().map(|(name, established)| (name.as_str(), *established));
    faults(wanted, seen, "there is no neighbor", "is not established")
}

fn faults<'a>(
    wanted: &[Pattern],
    seen: impl Iterator<Item = (&'a str, bool)> + Clone,
    missing: &str,
    down: &str,
) -> Vec<String> {
    let mut faults = Vec::new();
    for pattern in wanted {
        let mut matching = seen.clone().filter(|(name, _)| pattern.matches(name)).peekable();
        if matching.peek().is_none() {
            faults.push(format!("{missing} {pattern}"));
        }
        faults.extend(matching.filter(|(_, good)| !good).map(|(name, _)| format!("{name} {down}")));
    }
    faults
}

/// What is said of a node. Once it was ready, it takes some bad rounds in a row to say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Readiness {
    /// The checks have not passed yet, since the agent began.
    #[default]
    Waiting,
    /// They passed, or did so for the agent before this one.
    Ready {
        /// How many rounds in a row counted against it; nothing where the last round passed.
        bad: Option<u32>,
    },
    /// They passed once, and fail again and again.
    Unready,
}

impl Readiness {
    /// After one more round; `failures` of those that count in a row make a ready node unready.
    #[must_use]
    pub fn after(self, round: &Round, counts: bool, failures: u32) -> Self {
        match self {
            _ if round.passed() => Self::Ready { bad: None },
            Self::Ready { bad } if round.is_grave() => match bad.unwrap_or_default() + u32::from(counts) {
                bad if bad < failures => Self::Ready { bad: Some(bad) },
                _ => Self::Unready,
            },
            Self::Ready { bad } if round.is_pending() => Self::Ready { bad: Some(bad.unwrap_or_default()) },
            Self::Unready if round.is_grave() || round.is_pending() => self,
            // Packets go where they should: what is wrong with newer inputs does not make a node unready, nor keep it so.
            Self::Ready { .. } | Self::Unready => Self::Ready { bad: Some(0) },
            Self::Waiting => self,
        }
    }

    /// Where other checks are asked for, what the last round found proves nothing any more.
    #[must_use]
    pub fn in_doubt(self) -> Self {
        match self {
            Self::Ready { bad } => Self::Ready { bad: Some(bad.unwrap_or_default()) },
            other => other,
        }
    }

    /// As an agent begins that hears of a node which was ready for the one before: it stays so until its checks fail, and no taint that
    /// waits for them goes before they pass.
    #[must_use]
    pub fn or_as_before(self, was_ready: bool) -> Self {
        match self {
            Self::Waiting if was_ready => Self::Ready { bad: Some(0) },
            other => other,
        }
    }

    /// The status of the condition that says so.
    pub fn status(self) -> &'static str {
        if self.is_ready() { "True" } else { "False" }
    }

    /// Whether the node is said to be ready.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// Whether nothing was wrong with it when it was last looked at.
    pub fn passes(self) -> bool {
        self == Self::Ready { bad: None }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::HealthConfig;

    fn patterns(text: &str) -> Vec<Pattern> {
        HealthConfig::parse(&format!("interfaces: {text}"), Path::new("h")).unwrap().interfaces
    }

    fn round(faults: &[(Check, &[&str])]) -> Round {
        let mut round = Round::default();
        for (check, faults) in faults {
            round.add(*check, faults.iter().map(ToString::to_string).collect());
        }
        round
    }

    #[test]
    fn links_that_are_down_or_not_there_are_named_and_so_are_globs_without_any() {
        let seen = [("eth0", true), ("eth1", false), ("lo", true)];
        let seen = seen.map(|(name, up)| (name.to_owned(), up));
        assert_eq!(link_faults(&patterns("[eth0, lo]"), &seen), [""; 0]);
        assert_eq!(
            link_faults(&patterns("[\"eth*\", \"ens*\", eth2]"), &seen),
            ["eth1 is down", "there is no link ens*", "there is no link eth2"]
        );
    }

    #[test]
    fn a_session_that_is_not_established_is_named() {
        let seen = BTreeMap::from([("swp1".to_owned(), true), ("swp2".to_owned(), false)]);
        assert_eq!(session_faults(&patterns("[swp1]"), &seen), [""; 0]);
        assert_eq!(session_faults(&patterns("[\"swp*\"]"), &seen), ["swp2 is not established"]);
    }

    #[test]
    fn a_round_says_what_is_wrong_check_by_check() {
        assert_eq!(round(&[(Check::Frr, &[])]).to_string(), "all checks pass");
        let many = ["a", "b", "c", "d", "e", "f", "g"];
        let bad = round(&[(Check::Reachability, &many), (Check::Frr, &["bgpd is silent"]), (Check::Vnis, &[])]);
        assert_eq!(bad.to_string(), "frr: bgpd is silent; reachability: a, b, c, d, e and 2 more");
    }

    #[test]
    fn a_ready_node_is_unready_after_some_bad_rounds_in_a_row_and_ready_with_the_first_good_one() {
        let (good, bad) = (round(&[(Check::Frr, &[])]), round(&[(Check::Frr, &["x"])]));
        let behind = round(&[(Check::Verified, &["line 7 is refused"]), (Check::Frr, &[])]);
        let mut pending = good.clone();
        pending.add_pending(Check::Reachability);
        let rounds = [
            (&behind, true),
            (&bad, true),
            (&bad, true),
            (&good, true),
            (&bad, true),
            (&bad, true),
            (&good, true),
            (&bad, true),
            (&bad, false),
            (&behind, true),
            (&bad, true),
            (&bad, true),
            (&bad, true),
            (&pending, true),
            (&behind, true),
            (&pending, true),
            (&bad, true),
            (&pending, true),
            (&bad, true),
            (&bad, true),
            (&bad, true),
            (&good, true),
        ];
        let mut readiness = Readiness::default();
        let told: String = rounds
            .iter()
            .map(|(round, counts)| {
                readiness = readiness.after(round, *counts, 3);
                match readiness {
                    Readiness::Waiting => 'w',
                    Readiness::Ready { bad: None } => 'R',
                    Readiness::Ready { .. } => 'r',
                    Readiness::Unready => 'u',
                }
            })
            .collect();
        assert_eq!(told, "wwwRrrRrrrrruurrrrruuR");
    }

    #[test]
    fn what_is_in_doubt_or_was_so_before_lets_no_taint_go() {
        let ready = Readiness::Ready { bad: None };
        for doubtful in [ready.in_doubt(), Readiness::Waiting.or_as_before(true)] {
            assert!(doubtful.is_ready() && !doubtful.passes());
        }
        assert_eq!(ready.or_as_before(true), ready);
        assert_eq!(Readiness::Waiting.or_as_before(false), Readiness::Waiting);
        let mut pending = Round::default();
        pending.add_pending(Check::Reachability);
        assert!(!pending.passed() && !pending.is_grave());
        assert_eq!(pending.to_string(), "reachability: not known yet");
    }

    #[test]
    fn what_fails_is_the_same_whatever_the_cause() {
        let subjects = |fault: &str| round(&[(Check::Reachability, &[fault])]).subjects();
        let silent = subjects("db:5432 is not reachable: no answer within 3000ms");
        assert_eq!(silent, subjects("db:5432 is not reachable: No route to host"));
        assert_ne!(silent, subjects("db:5433 is not reachable: No route to host"));
        let refused = |line: u8| round(&[(Check::Verified, &[&format!("FRR refuses: line {line}")])]).subjects();
        assert_ne!(refused(7), refused(12));
    }
}
