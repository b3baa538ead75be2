//! When to look for drift: soon, but neither again and again nor in the middle of things. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::debounce::{RunResult, back_off};

/// What moves the node seldom comes alone: how long the first sign waits for the others.
const SETTLE: Duration = Duration::from_millis(200);
/// Least time between a run and the inspection after it. Monitoring may run vtysh every few seconds.
const GAP: Duration = Duration::from_secs(1);
/// Over how long repairs are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// A daemon that has come back is given its configuration by watchfrr (`vtysh -b`): looked at earlier, it would seem to
/// have lost it. In the lab that took 5 s.
const RECOVERY: Duration = Duration::from_secs(10);
/// How long frr.service may be on the move before it is looked at all the same.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a drift run did to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The node was as it should be.
    None,
    /// Something had to be put back.
    Repaired,
}

/// Gathers signs of drift into inspections.
#[derive(Debug)]
pub struct Drift {
    limit: usize,
    /// When the first sign came that no run has answered.
    asked: Option<Instant>,
    /// Since when frr.service is on the move.
    moving: Option<Instant>,
    /// When a daemon last came or went.
    daemon: Option<Instant>,
    /// When the last run ended, and how long it is to be left behind.
    last: Option<(Instant, Duration)>,
    failures: u32,
    /// The last repairs, as many as a minute may have.
    repairs: VecDeque<Instant>,
    told: bool,
}

impl Drift {
    /// At most so many repairs in a minute.
    pub fn new(repairs_per_minute: u32) -> Self {
        Self {
            limit: usize::try_from(repairs_per_minute).unwrap_or(usize::MAX).max(1),
            asked: None,
            moving: None,
            daemon: None,
            last: None,
            failures: 0,
            repairs: VecDeque::new(),
            told: false,
        }
    }

    /// A sign of drift.
    pub fn request(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// A daemon came or went.
    pub fn daemon_moved(&mut self, now: Instant) {
        self.daemon = Some(now);
    }

    /// frr.service is on the move.
    pub fn hold(&mut self, now: Instant) {
        self.moving.get_or_insert(now);
    }

    /// It has settled. That may be for a moment only: a restart stops it first.
    pub fn release(&mut self, now: Instant) {
        if self.moving.take().is_some() {
            self.asked = self.asked.map(|_| now);
        }
    }

    /// What made runs fail is over.
    pub fn forgive(&mut self) {
        self.failures = 0;
        self.last = self.last.map(|(end, _)| (end, GAP));
    }

    /// When the next inspection is due.
    pub fn deadline(&self) -> Option<Instant> {
        let settled = self.asked? + SETTLE;
        let moved = self.moving.map(|since| since + PATIENCE);
        let rested = self.last.map(|(end, wait)| end + wait);
        let recovered = self.daemon.map(|moved| moved + RECOVERY);
        [moved, recovered, rested, self.next_repair()].into_iter().flatten().chain([settled]).max()
    }

    /// When there may be a repair again; `None` where there may be one at any time.
    fn next_repair(&self) -> Option<Instant> {
        let oldest = self.repairs.front()?;
        (self.repairs.len() >= self.limit).then(|| *oldest + MINUTE)
    }

    /// Until when an inspection that is asked for must wait because of the limit; told once, until a run finds nothing.
    pub fn held_back(&mut self, now: Instant) -> Option<Instant> {
        let until = self.next_repair().filter(|until| *until > now && self.asked.is_some() && !self.told)?;
        self.told = true;
        Some(until)
    }

    /// A run of any kind begins: it sees the node as it is now.
    pub fn run_started(&mut self) {
        self.asked = None;
    }

    /// A run for a change ended.
    pub fn change_finished(&mut self, now: Instant, result: RunResult) {
        if result != RunResult::Failed {
            self.failures = 0;
        }
        // What a failed run did itself looks like drift: it must not lead straight to the next one.
        self.wait(now, result);
    }

    /// An inspection ended.
    pub fn finished(&mut self, now: Instant, result: RunResult, effect: Effect) {
        self.wait(now, result);
        self.failures = if result == RunResult::Failed { self.failures.saturating_add(1) } else { 0 };
        match effect {
            Effect::None => self.told = false,
            Effect::Repaired => {
                self.repairs.push_back(now);
                if self.repairs.len() > self.limit {
                    self.repairs.pop_front();
                }
            }
        }
    }

    fn wait(&mut self, now: Instant, result: RunResult) {
        let wait = if result == RunResult::Failed { back_off(self.failures) } else { GAP };
        self.last = Some((now, wait));
    }
}
