//! When to apply changes: the window that gathers requests, and the back-off after a failure. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::doubled;

/// First wait after a failed run; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest wait after a failed run.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    /// What was asked for is so.
    Good,
    /// All steps went well, but something was in the way and left out: it is tried again.
    Incomplete,
    /// A step failed: it is tried again.
    Failed,
    /// There was nothing to go by yet: the first run is still to come.
    Waiting,
}

/// The wait after so many failures before the last one.
pub(super) fn back_off(failures: u32) -> Duration {
    doubled(FIRST_RETRY, failures, LAST_RETRY)
}

/// Gathers requests into runs.
///
/// The first request opens a window; all that come in it are one run. A request during a run opens a new window
/// after it. The first run after start is immediate. A failed run is tried again after a back-off, or with the next
/// request's window where that ends earlier.
#[derive(Debug)]
pub struct Debounce {
    window: Duration,
    started: bool,
    running: bool,
    /// When the open window ends.
    window_end: Option<Instant>,
    /// Whether something was asked for during the run.
    asked_during_run: bool,
    retry_at: Option<Instant>,
    failures: u32,
}

impl Debounce {
    /// A window of that length; zero makes every request a run of its own.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            started: false,
            running: false,
            window_end: None,
            asked_during_run: false,
            retry_at: None,
            failures: 0,
        }
    }

    /// Something changed.
    pub fn request(&mut self, now: Instant) {
        if self.running {
            self.asked_during_run = true;
            return;
        }
        let wait = if self.started { self.window } else { Duration::ZERO };
        self.window_end.get_or_insert(now + wait);
    }

    /// When the next run is due; `None` while one runs or nothing is asked for.
    pub fn deadline(&self) -> Option<Instant> {
        if self.running {
            return None;
        }
        [self.window_end, self.retry_at].into_iter().flatten().min()
    }

    /// Whether a run is due.
    pub fn due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// A run begins: it answers all that was asked for before.
    pub fn run_started(&mut self) {
        (self.started, self.running, self.asked_during_run) = (true, true, false);
        (self.window_end, self.retry_at) = (None, None);
    }

    /// The run ended.
    pub fn run_finished(&mut self, now: Instant, result: RunResult) {
        self.running = false;
        match result {
            RunResult::Good => self.failures = 0,
            RunResult::Incomplete | RunResult::Failed => {
                self.retry_at = Some(now + back_off(self.failures));
                self.failures = self.failures.saturating_add(1);
            }
            RunResult::Waiting => (self.started, self.failures) = (false, 0),
        }
        if self.asked_during_run {
            self.request(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// One good run behind it.
    fn settled() -> (Debounce, Instant) {
        let (mut debounce, now) = (Debounce::new(WINDOW), Instant::now());
        debounce.request(now);
        assert!(debounce.due(now), "the first run is immediate");
        debounce.run_started();
        debounce.run_finished(now, RunResult::Good);
        assert_eq!(debounce.deadline(), None);
        (debounce, now)
    }

    #[test]
    fn the_first_event_opens_the_window_and_fifty_inside_make_one_run() {
        let (mut debounce, now) = settled();
        for n in 0..50 {
            debounce.request(now + Duration::from_millis(n * 500));
            assert_eq!(debounce.deadline(), Some(now + WINDOW));
        }
        assert!(!debounce.due(now + seconds(29)) && debounce.due(now + WINDOW));
        debounce.run_started();
        debounce.run_finished(now + seconds(31), RunResult::Good);
        assert_eq!(debounce.deadline(), None);
    }

    #[test]
    fn an_event_during_a_run_makes_exactly_one_more_after_a_window() {
        let (mut debounce, now) = settled();
        debounce.request(now);
        debounce.run_started();
        debounce.request(now + seconds(31));
        debounce.request(now + seconds(32));
        assert_eq!(debounce.deadline(), None);
        debounce.run_finished(now + seconds(40), RunResult::Good);
        assert_eq!(debounce.deadline(), Some(now + seconds(70)));
        debounce.run_started();
        debounce.run_finished(now + seconds(71), RunResult::Good);
        assert_eq!(debounce.deadline(), None);
    }

    #[test]
    fn the_run_after_one_that_had_nothing_to_go_by_is_immediate() {
        let (mut debounce, now) = (Debounce::new(WINDOW), Instant::now());
        debounce.request(now);
        debounce.run_started();
        debounce.run_finished(now, RunResult::Waiting);
        assert_eq!(debounce.deadline(), None);
        debounce.request(now + seconds(20));
        assert!(debounce.due(now + seconds(20)));
        debounce.run_started();
        debounce.request(now + seconds(20));
        debounce.run_finished(now + seconds(20), RunResult::Waiting);
        assert!(debounce.due(now + seconds(20)), "asked for during that run");
    }

    #[test]
    fn a_failed_run_is_tried_again_ever_later_and_a_good_one_forgets_that() {
        let (mut debounce, now) = settled();
        debounce.request(now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            debounce.run_started();
            debounce.run_finished(now, RunResult::Failed);
            waits.push(debounce.deadline().unwrap().duration_since(now).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        debounce.run_started();
        debounce.run_finished(now, RunResult::Good);
        debounce.request(now);
        debounce.run_started();
        debounce.run_finished(now, RunResult::Failed);
        assert_eq!(debounce.deadline(), Some(now + FIRST_RETRY));
    }

    #[test]
    fn a_failure_does_not_swallow_or_delay_newer_events() {
        let (mut debounce, now) = settled();
        debounce.request(now);
        for _ in 0..8 {
            debounce.run_started();
            debounce.run_finished(now, RunResult::Failed);
        }
        debounce.request(now + seconds(1));
        assert_eq!(debounce.deadline(), Some(now + seconds(31)));
        debounce.run_started();
        debounce.request(now + seconds(32));
        debounce.run_finished(now + seconds(40), RunResult::Failed);
        assert_eq!(debounce.deadline(), Some(now + seconds(70)));
    }

    proptest! {
        #[test]
        fn no_event_stays_unanswered(steps in prop::collection::vec((0u64..60, 0u8..3), 1..60)) {
            let (mut debounce, mut now) = (Debounce::new(WINDOW), Instant::now());
            let mut unanswered = false;
            for (wait, step) in steps {
                now += seconds(wait);
                match step {
                    0 => { debounce.request(now); unanswered = true; }
                    1 if debounce.due(now) => { debounce.run_started(); unanswered = false; }
                    2 if debounce.running => debounce.run_finished(now, RunResult::Good),
                    _ => {}
                }
                prop_assert!(!unanswered || debounce.running || debounce.deadline().is_some());
                prop_assert!(debounce.deadline().is_none_or(|deadline| deadline <= now + WINDOW));
            }
        }
    }
}
