//! Who sums up: one agent of all, elected by a Lease of the API server.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limit::within;
use crate::trigger::kube::patient;
use crate::trigger::{Once, doubled, with_causes};

/// Name of the Lease.
const NAME: &str = "network-operator";
/// How long a holder that is not heard of keeps it. Another takes over within that and a renewal.
const DURATION: Duration = Duration::from_secs(20);
/// How often the holder is heard of.
const RENEWAL: Duration = Duration::from_secs(8);
/// How long after its last renewal the holder acts as one: others take it later, even where a request hung.
const LEADS: Duration = Duration::from_secs(14);
/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(4);
/// First wait after a write that failed, and the longest: while the API server is away, all candidates try.
const RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(16);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wait(Instant),
    /// Take it, or renew it.
    Write,
}

/// The Lease as one candidate sees it. Clocks of nodes differ: what counts is when a change was heard of, by the own clock.
#[derive(Debug)]
struct Election {
    identity: String,
    /// The Lease as last heard of, and when.
    seen: Option<(Lease, Instant)>,
    /// Whether the list that is under way has it.
    listed: bool,
    /// When the own renewal last went well.
    renewed: Option<Instant>,
    /// Not before; after a write that failed.
    rest: Option<Instant>,
    failures: u32,
    /// How much longer than the others this candidate waits, so that not all take it at once.
    stagger: Duration,
}

impl Election {
    fn new(identity: String) -> Self {
        // Spreads candidates over two seconds, the same one always at the same place.
        let sum = identity.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let stagger = Duration::from_millis(sum % 2000);
        Self { identity, seen: None, listed: false, renewed: None, rest: None, failures: 0, stagger }
    }

    fn heard(&mut self, lease: Lease, now: Instant) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        if self.seen.as_ref().is_none_or(|(old, _)| version(old) != version(&lease)) {
            self.seen = Some((lease, now));
        }
    }

    /// There is none: it is taken, but not by all at once.
    fn gone(&mut self, now: Instant) {
        (self.seen, self.rest) = (None, Some(now + self.stagger));
    }

    /// A list is complete.
    fn list_done(&mut self, now: Instant) {
        if !std::mem::take(&mut self.listed) {
            self.gone(now);
        }
    }

    fn held_by_us(&self) -> bool {
        let holder = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref()?.holder_identity.as_deref());
        holder == Some(self.identity.as_str())
    }

    /// Whether we hold it: nobody else takes it before its duration is over.
    fn leads(&self, now: Instant) -> bool {
        self.leads_until().is_some_and(|end| now < end)
    }

    fn leads_until(&self) -> Option<Instant> {
        self.renewed.filter(|_| self.held_by_us()).map(|at| at + LEADS)
    }

    fn step(&self, now: Instant) -> Step {
        let free = match &self.seen {
            _ if self.held_by_us() => self.renewed.map_or(now, |at| at + RENEWAL),
            Some((_, heard)) => *heard + DURATION + self.stagger,
            None => now,
        };
        let due = self.rest.map_or(free, |rest| rest.max(free));
        if due <= now { Step::Write } else { Step::Wait(due) }
    }

    /// The Lease as it is to be.
    fn wanted(&self, wall: Timestamp) -> Lease {
        let mut lease = self.seen.as_ref().map(|(lease, _)| lease.clone()).unwrap_or_default();
        lease.metadata.name = Some(NAME.to_owned());
        let before = lease.spec.take().unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = before.lease_transitions.unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            acquire_time: if ours { before.acquire_time } else { Some(MicroTime(wall)) },
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(if ours || self.seen.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            renew_time: Some(MicroTime(wall)),
            ..LeaseSpec::default()
        });
        lease
    }

    /// A write that began then went well.
    fn wrote(&mut self, lease: Lease, began: Instant) {
        self.heard(lease, began);
        (self.renewed, self.rest, self.failures) = (Some(began), None, 0);
    }

    fn failed(&mut self, now: Instant) {
        let wait = doubled(RETRY, self.failures, LAST_RETRY);
        (self.rest, self.failures) = (Some(now + wait), self.failures.saturating_add(1));
    }
}

/// Stands for election until it is cancelled, and tells whether it leads.
pub async fn stand(
    client: Client,
    namespace: String,
    identity: String,
    leads: watch::Sender<bool>,
    cancel: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut events = std::pin::pin!(patient(watcher(api.clone(), config)));
    let (mut election, mut known, mut told) = (Election::new(identity), false, Once::default());
    loop {
        let now = Instant::now();
        let leading = election.leads(now);
        leads.send_if_modified(|leads| std::mem::replace(leads, leading) != leading);
        let step = election.step(now);
        let due = match step {
            Step::Wait(until) => until,
            Step::Write => now,
        };
        let end = election.leads_until().filter(|_| leading);
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            event = events.next() => match event {
                Some(Ok(event)) => known |= hear(&mut election, event),
                Some(Err(error)) => {
                    election.listed = false;
                    tell(&mut told, &with_causes(&error), &namespace);
                }
                None => break,
            },
            () = tokio::time::sleep_until(end.map_or(due, |end| end.min(due))), if known => {
                if step != Step::Write { continue }
                match write(&api, election.wanted(Timestamp::now())).await {
                    Ok(lease) => { election.wrote(lease, now); told.is_over(); }
                    Err(error) => {
                        election.failed(Instant::now());
                        if is_outdated(&error) {
                            // Somebody else was faster, or it has gone, and no watch has told of it yet.
                            look(&api, &mut election).await;
                        } else {
                            tell(&mut told, &with_causes(&error), &namespace);
                        }
                    }
                }
            }
        }
    }
    leads.send_replace(false);
}

/// Gives whether it is now known which Lease there is, if any.
fn hear(election: &mut Election, event: watcher::Event<Lease>) -> bool {
    match event {
        watcher::Event::InitApply(lease) => {
            election.listed = true;
            election.heard(lease, Instant::now());
        }
        watcher::Event::Apply(lease) => election.heard(lease, Instant::now()),
        watcher::Event::Delete(_) => election.gone(Instant::now()),
        watcher::Event::Init => return false,
        watcher::Event::InitDone => election.list_done(Instant::now()),
    }
    true
}

async fn write(api: &Api<Lease>, lease: Lease) -> kube::Result<Lease> {
    let parameters = kube::api::PostParams::default();
    match lease.metadata.resource_version {
        Some(_) => within(LIMIT, api.replace(NAME, &parameters, &lease)).await,
        None => within(LIMIT, api.create(&parameters, &lease)).await,
    }
}

async fn look(api: &Api<Lease>, election: &mut Election) {
    match within(LIMIT, api.get_opt(NAME)).await {
        Ok(Some(lease)) => election.heard(lease, Instant::now()),
        Ok(None) => election.gone(Instant::now()),
        Err(_) => {}
    }
}

fn is_outdated(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [404, 409].contains(&status.code))
}

fn tell(told: &mut Once, error: &str, namespace: &str) {
    if told.is_news(error) {
        tracing::warn!(%error, %namespace, "no Lease: this agent does not sum up; the service account needs get, list, watch, create and update on leases");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(lease: Lease, version: &str) -> Lease {
        let mut lease = lease;
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    fn wall() -> Timestamp {
        Timestamp::from_second(1).unwrap()
    }

    #[test]
    fn a_lease_that_nobody_has_is_taken_and_renewed_before_it_ends() {
        let (mut one, now) = (Election::new("a".to_owned()), Instant::now());
        assert_eq!(one.step(now), Step::Write);
        assert!(!one.leads(now));
        one.wrote(stored(one.wanted(wall()), "1"), now);
        assert!(one.leads(now));
        assert_eq!(one.step(now), Step::Wait(now + RENEWAL));
        assert_eq!(one.step(now + RENEWAL), Step::Write);
        one.failed(now + RENEWAL);
        assert_eq!(one.step(now + RENEWAL), Step::Wait(now + RENEWAL + RETRY));
        assert!(one.leads(now + RENEWAL) && !one.leads(now + LEADS), "one that cannot renew leads no longer");
        assert!(RENEWAL + LIMIT < LEADS && LEADS < DURATION, "not even where a renewal hangs");
    }

    #[test]
    fn another_takes_over_once_the_holder_has_been_silent_and_not_before() {
        let (mut one, mut two, now) = (Election::new("a".to_owned()), Election::new("b".to_owned()), Instant::now());
        let first = stored(one.wanted(wall()), "1");
        one.wrote(first.clone(), now);
        two.heard(first, now);
        let patience = DURATION + two.stagger;
        assert_eq!(two.step(now), Step::Wait(now + patience));
        let renewed = stored(one.wanted(wall()), "2");
        two.heard(renewed.clone(), now + RENEWAL);
        two.heard(renewed, now + RENEWAL + RENEWAL);
        assert_eq!(two.step(now + RENEWAL), Step::Wait(now + RENEWAL + patience), "a renewal counts once");
        assert_eq!(two.step(now + RENEWAL + patience), Step::Write);
        let taken = two.wanted(wall());
        let spec = taken.spec.as_ref().unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("2"), "whoever was faster wins");
        two.wrote(stored(taken.clone(), "3"), now + RENEWAL + patience);
        one.heard(stored(taken, "3"), now + RENEWAL + patience);
        assert!(two.leads(now + RENEWAL + patience) && !one.leads(now + RENEWAL + patience));
        assert!(DURATION + Duration::from_secs(2) < Duration::from_secs(30));
    }

    #[test]
    fn a_lease_that_is_not_in_a_list_any_more_is_free() {
        let (mut one, now) = (Election::new("a".to_owned()), Instant::now());
        one.heard(stored(Election::new("b".to_owned()).wanted(wall()), "7"), now);
        one.listed = true;
        one.list_done(now);
        assert!(matches!(one.step(now), Step::Wait(_)));
        one.list_done(now);
        assert_eq!(one.step(now + one.stagger), Step::Write);
        assert_eq!(one.wanted(wall()).metadata.resource_version, None);
    }

    #[test]
    fn an_agent_that_comes_back_goes_on_with_its_lease() {
        let (mut one, now) = (Election::new("a".to_owned()), Instant::now());
        one.heard(stored(one.wanted(wall()), "7"), now);
        assert!(!one.leads(now), "it has not renewed it yet");
        assert_eq!(one.step(now), Step::Write);
        assert_eq!(one.wanted(wall()).spec.unwrap().lease_transitions, Some(0));
    }
}
