//! When to run, and what for: changes after their window, drift at once. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::Trigger;
use super::debounce::{Debounce, RunResult};
use super::drift::{Drift, Effect};

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The inputs changed, or a run for them is tried again: they are read anew.
    Change,
    /// The node may have moved away from the inputs of the last run: it goes by them, so that a change whose window is
    /// open stays where it is.
    Drift,
}

/// Makes runs of triggers, one at a time.
///
/// Signs of drift count from the first run on. Those that come during a run lead to one inspection after it: what our own
/// run did raises events too, and telling them from others' would be guessing.
#[derive(Debug)]
pub struct Timing {
    change: Debounce,
    drift: Drift,
    started: bool,
    running: Option<Due>,
}

impl Timing {
    /// With a window for changes, and a limit on repairs.
    pub fn new(window: Duration, repairs_per_minute: u32) -> Self {
        Self { change: Debounce::new(window), drift: Drift::new(repairs_per_minute), started: false, running: None }
    }

    /// Something happened.
    pub fn ask(&mut self, trigger: Trigger, now: Instant) {
        match trigger {
            Trigger::Objects | Trigger::OperatorFile | Trigger::Template | Trigger::InputLimit => {
                self.change.request(now);
            }
            Trigger::ServiceMoves => self.drift.hold(now),
            Trigger::Service => {
                self.drift.release(now);
                self.look(now);
            }
            Trigger::ServiceStarted => {
                self.drift.release(now);
                self.drift.forgive();
                self.look(now);
            }
            Trigger::Daemons => {
                self.drift.daemon_moved(now);
                self.look(now);
            }
            Trigger::Links
            | Trigger::Filters
            | Trigger::Notrack
            | Trigger::FrrConf
            | Trigger::Vtysh
            | Trigger::Clock => self.look(now),
        }
    }

    fn look(&mut self, now: Instant) {
        if self.started {
            self.drift.request(now);
        }
    }

    /// When the next run is due; `None` while one runs or nothing is asked for.
    pub fn deadline(&self) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        [self.change.deadline(), self.drift.deadline()].into_iter().flatten().min()
    }

    /// The run that is due. One for a change looks at the whole node, so it goes first.
    pub fn due(&self, now: Instant) -> Option<Due> {
        let past = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        match self.running {
            Some(_) => None,
            None if past(self.change.deadline()) => Some(Due::Change),
            None => past(self.drift.deadline()).then_some(Due::Drift),
        }
    }

    /// Until when the limit on repairs keeps an inspection back; told once.
    pub fn held_back(&mut self, now: Instant) -> Option<Instant> {
        self.drift.held_back(now)
    }

    /// A run begins.
    pub fn run_started(&mut self, due: Due) {
        (self.started, self.running) = (true, Some(due));
        self.drift.run_started();
        if due == Due::Change {
            self.change.run_started();
        }
    }

    /// The run ended.
    pub fn run_finished(&mut self, now: Instant, result: RunResult, effect: Effect) {
        match self.running.take() {
            Some(Due::Drift) => {
                self.drift.finished(now, result, effect);
                // Nothing else may happen that would ask for it.
                if result == RunResult::Failed && self.change.deadline().is_none() {
                    self.drift.request(now);
                }
            }
            Some(Due::Change) | None => {
                self.change.run_finished(now, result);
                self.drift.change_finished(now, result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    impl Timing {
        /// Asserts what is due when, runs it at that time, and gives when it has ended.
        fn runs(&mut self, due: Due, at: Instant, result: RunResult, effect: Effect) -> Instant {
            assert_eq!(self.deadline(), Some(at));
            assert_eq!(self.due(at - millis(1)), None);
            assert_eq!(self.due(at), Some(due));
            self.run_started(due);
            assert_eq!((self.deadline(), self.due(at + WINDOW)), (None, None));
            self.run_finished(at, result, effect);
            at
        }
    }

    /// One good run behind it, so long ago that it does not matter.
    fn settled() -> (Timing, Instant) {
        let (mut timing, now) = (Timing::new(WINDOW, 3), Instant::now());
        timing.ask(Trigger::Objects, now);
        let end = timing.runs(Due::Change, now, RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
        (timing, end + seconds(10))
    }

    #[test]
    fn drift_counts_only_after_the_first_run() {
        let (mut timing, now) = (Timing::new(WINDOW, 3), Instant::now());
        timing.ask(Trigger::Links, now);
        assert_eq!(timing.deadline(), None);
    }

    #[test]
    fn signs_of_drift_are_one_inspection_a_moment_after_the_first_and_at_most_one_a_second() {
        let (mut timing, now) = settled();
        for n in 0..50 {
            timing.ask(Trigger::Vtysh, now + millis(n * 3));
        }
        let end = timing.runs(Due::Drift, now + millis(200), RunResult::Good, Effect::None);
        timing.ask(Trigger::Vtysh, end + millis(1));
        let end = timing.runs(Due::Drift, end + seconds(1), RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
        timing.ask(Trigger::Clock, end + millis(950));
        timing.runs(Due::Drift, end + millis(1150), RunResult::Good, Effect::None);
    }

    #[test]
    fn drift_does_not_pull_a_change_forward_and_a_change_answers_drift() {
        let (mut timing, now) = settled();
        timing.ask(Trigger::Objects, now);
        timing.ask(Trigger::Links, now + seconds(5));
        timing.runs(Due::Drift, now + millis(5200), RunResult::Good, Effect::Repaired);
        timing.ask(Trigger::Links, now + seconds(30));
        timing.runs(Due::Change, now + seconds(30), RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
    }

    #[test]
    fn what_comes_during_a_run_leads_to_one_inspection_after_it() {
        let (mut timing, now) = settled();
        timing.ask(Trigger::Template, now);
        timing.run_started(Due::Change);
        for n in 0..9 {
            timing.ask(Trigger::Links, now + seconds(n));
        }
        timing.run_finished(now + seconds(9), RunResult::Good, Effect::None);
        timing.runs(Due::Drift, now + seconds(10), RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
    }

    #[test]
    fn a_change_during_an_inspection_opens_its_window_at_once() {
        let (mut timing, now) = settled();
        timing.ask(Trigger::Links, now);
        timing.run_started(Due::Drift);
        timing.ask(Trigger::Objects, now + seconds(1));
        timing.run_finished(now + seconds(5), RunResult::Good, Effect::None);
        timing.runs(Due::Change, now + seconds(31), RunResult::Good, Effect::None);
    }

    #[test]
    fn drift_may_try_a_failed_change_again_but_ever_later() {
        let (mut timing, now) = settled();
        timing.ask(Trigger::Objects, now);
        let mut last = timing.runs(Due::Change, now + WINDOW, RunResult::Failed, Effect::None);
        let mut waits = Vec::new();
        for _ in 0..12 {
            timing.ask(Trigger::Links, last);
            let at = timing.deadline().unwrap();
            let due = timing.due(at).unwrap();
            timing.run_started(due);
            timing.run_finished(at, RunResult::Failed, Effect::None);
            waits.push((at.duration_since(last).as_secs(), due));
            last = at;
        }
        let total: u64 = waits.iter().map(|(wait, _)| wait).sum();
        assert!(waits.iter().all(|(wait, _)| *wait >= 5 || total > 60) && total > 300, "{waits:?}");
        assert!(waits.iter().any(|(_, due)| *due == Due::Drift), "{waits:?}");
    }

    #[test]
    fn an_inspection_that_failed_is_tried_again_without_being_asked() {
        let (mut timing, mut now) = settled();
        timing.ask(Trigger::Links, now);
        now = timing.runs(Due::Drift, now + millis(200), RunResult::Failed, Effect::None);
        now = timing.runs(Due::Drift, now + seconds(5), RunResult::Failed, Effect::None);
        now = timing.runs(Due::Drift, now + seconds(10), RunResult::Failed, Effect::None);
        timing.ask(Trigger::ServiceStarted, now + seconds(1));
        timing.runs(Due::Drift, now + seconds(1), RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
    }

    #[test]
    fn something_that_was_left_out_is_tried_again_later_and_drift_meanwhile_is_put_back_at_once() {
        let (mut timing, now) = settled();
        timing.ask(Trigger::Objects, now);
        let end = timing.runs(Due::Change, now + WINDOW, RunResult::Incomplete, Effect::None);
        timing.ask(Trigger::Links, end + seconds(2));
        timing.runs(Due::Drift, end + millis(2200), RunResult::Incomplete, Effect::Repaired);
        timing.runs(Due::Change, end + seconds(5), RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
    }

    #[test]
    fn while_frr_service_is_on_the_move_nothing_is_looked_at_but_not_for_ever() {
        let (mut timing, now) = settled();
        timing.ask(Trigger::ServiceMoves, now);
        timing.ask(Trigger::Vtysh, now + seconds(1));
        assert_eq!(timing.deadline(), Some(now + seconds(300)));
        timing.ask(Trigger::Service, now + seconds(9));
        assert_eq!(timing.deadline(), Some(now + millis(9200)), "a restart stops it for a moment");
        timing.ask(Trigger::ServiceMoves, now + millis(9100));
        timing.ask(Trigger::ServiceStarted, now + seconds(15));
        timing.runs(Due::Drift, now + millis(15_200), RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
    }

    #[test]
    fn a_daemon_that_came_back_is_left_alone_until_it_has_its_configuration() {
        let (mut timing, now) = settled();
        timing.ask(Trigger::Daemons, now);
        timing.ask(Trigger::Daemons, now + seconds(2));
        timing.ask(Trigger::Vtysh, now + seconds(6));
        timing.runs(Due::Drift, now + seconds(12), RunResult::Good, Effect::None);
        assert_eq!(timing.deadline(), None);
    }

    #[test]
    fn repairs_are_limited_and_that_is_told_once() {
        let (mut timing, now) = settled();
        let mut last = now;
        for _ in 0..3 {
            timing.ask(Trigger::Links, last);
            assert_eq!(timing.held_back(last), None);
            let at = timing.deadline().unwrap();
            last = timing.runs(Due::Drift, at, RunResult::Good, Effect::Repaired);
        }
        let first = now + millis(200);
        assert_eq!(timing.held_back(last), None, "nobody asks");
        timing.ask(Trigger::Links, last);
        assert_eq!(timing.held_back(last), Some(first + seconds(60)));
        assert_eq!(timing.held_back(last), None, "told");
        last = timing.runs(Due::Drift, first + seconds(60), RunResult::Good, Effect::Repaired);
        timing.ask(Trigger::Links, last);
        assert_eq!(timing.held_back(last), None, "told, and it has not been quiet since");
        timing.ask(Trigger::Objects, last);
        let at = timing.deadline().unwrap();
        assert_eq!(timing.due(at), Some(Due::Drift), "the second repair is a minute ago");
        timing.runs(Due::Drift, at, RunResult::Good, Effect::None);
        timing.runs(Due::Change, last + WINDOW, RunResult::Good, Effect::None);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask(Trigger),
        Run(RunResult, Effect),
    }

    fn step() -> impl Strategy<Value = Step> {
        use Trigger::{
            Clock, Daemons, FrrConf, Links, Objects, Service, ServiceMoves, ServiceStarted, Template, Vtysh,
        };
        let triggers =
            [Objects, Template, Links, ServiceMoves, Service, ServiceStarted, Daemons, FrrConf, Vtysh, Clock];
        let results = [RunResult::Good, RunResult::Incomplete, RunResult::Failed];
        let run = (prop::sample::select(results.to_vec()), prop::sample::select(vec![Effect::None, Effect::Repaired]));
        prop_oneof![
            2 => prop::sample::select(triggers.to_vec()).prop_map(Step::Ask),
            1 => run.prop_map(|(result, effect)| Step::Run(result, effect)),
        ]
    }

    proptest! {
        #[test]
        fn no_trigger_stays_unanswered_and_no_limit_is_broken(
            steps in prop::collection::vec((0u64..5000, 0u64..3000, step()), 1..200)
        ) {
            let (mut timing, mut now) = (Timing::new(WINDOW, 3), Instant::now());
            let (mut started, mut drifted, mut changed) = (false, false, false);
            let (mut last_end, mut repairs): (Option<Instant>, Vec<Instant>) = (None, Vec::new());
            for (wait, takes, step) in steps {
                now += millis(wait);
                match step {
                    Step::Ask(trigger) => {
                        timing.ask(trigger, now);
                        changed |= trigger.is_change();
                        drifted |= started && !trigger.is_change() && trigger != Trigger::ServiceMoves;
                    }
                    Step::Run(result, effect) => if let Some(due) = timing.due(now) {
                        let effect = if due == Due::Drift { effect } else { Effect::None };
                        if due == Due::Drift {
                            prop_assert!(started && last_end.is_none_or(|end| end + seconds(1) <= now));
                            let recent = repairs.iter().filter(|at| **at + seconds(60) > now).count();
                            prop_assert!(recent < 3, "{recent} repairs in the last minute");
                        } else {
                            changed = false;
                        }
                        (started, drifted) = (true, false);
                        timing.run_started(due);
                        now += millis(takes);
                        timing.run_finished(now, result, effect);
                        last_end = Some(now);
                        if effect == Effect::Repaired {
                            repairs.push(now);
                        }
                    }
                }
                prop_assert!(!(changed || drifted) || timing.deadline().is_some());
                prop_assert!(timing.deadline().is_none_or(|deadline| deadline <= now + seconds(600)));
            }
        }

        #[test]
        fn signs_of_drift_never_move_the_run_of_a_change(
            signs in prop::collection::vec((0u64..40_000, any::<bool>()), 0..40), asked in 0u64..5000
        ) {
            let (mut timing, begin) = settled();
            timing.ask(Trigger::Objects, begin + millis(asked));
            let mut signs = signs;
            signs.sort_unstable();
            for (at, good) in signs.into_iter().filter(|(at, _)| *at < asked + 30_000) {
                let now = begin + millis(at.max(asked));
                while let Some(deadline) = timing.deadline().filter(|deadline| *deadline < now) {
                    prop_assert_eq!(timing.due(deadline), Some(Due::Drift));
                    timing.run_started(Due::Drift);
                    timing.run_finished(deadline, if good { RunResult::Good } else { RunResult::Failed }, Effect::None);
                }
                timing.ask(Trigger::Links, now);
            }
            let at = begin + millis(asked) + WINDOW;
            prop_assert_eq!(timing.due(at), Some(Due::Change));
        }
    }
}
