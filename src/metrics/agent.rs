//! What the agent counts of its own work.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric as Registered, Registry};
use tokio::time::Instant;

use super::Metric;
use super::catalogue::{
    ACCEPTED, API_SERVER, BEHIND, CHECK, DEBOUNCE, NETLINK, REJECTED, RELOADS, REPAIRS, ROLLBACKS, RUNS, STEP,
};
use crate::bpf::RouterOp;
use crate::desired::Rejection;
use crate::link::LinkOp;
use crate::reconcile::{Outcome, Restored, RunError, Steps};
use crate::trigger::timing::Due;

/// From a millisecond to about nine minutes.
#[derive(Debug, Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.001, 2.0, 20))
    }
}

type Labels = Vec<(&'static str, String)>;
type GaugeF64 = Gauge<f64, std::sync::atomic::AtomicU64>;

/// What the agent counts of its own work; a clone counts the same.
#[derive(Debug, Clone)]
pub struct AgentMetrics {
    runs: Family<Labels, Counter>,
    steps: Family<Labels, Histogram, Buckets>,
    reloads: Family<Labels, Counter>,
    rollbacks: Family<Labels, Counter>,
    repairs: Family<Labels, Counter>,
    rejected: Family<Labels, Gauge>,
    accepted: GaugeF64,
    behind: Gauge,
    /// No series where objects come from files.
    api_server: Family<Labels, Gauge>,
    debounce: Histogram,
    netlink: Family<Labels, Counter>,
    checks: Family<Labels, Gauge>,
}

impl Default for AgentMetrics {
    fn default() -> Self {
        let metrics = Self {
            runs: Family::default(),
            steps: Family::new_with_constructor(Buckets),
            reloads: Family::default(),
            rollbacks: Family::default(),
            repairs: Family::default(),
            rejected: Family::default(),
            accepted: GaugeF64::default(),
            behind: Gauge::default(),
            api_server: Family::default(),
            debounce: Buckets.new_metric(),
            netlink: Family::default(),
            checks: Family::default(),
        };
        // From the beginning: of a series that is born with its first event Prometheus sees no increase.
        let from_zero = |counted: &Family<Labels, Counter>, metric: &Metric, values: &[&str]| {
            values.iter().for_each(|value| drop(counted.get_or_create(&of(metric, *value))));
        };
        from_zero(&metrics.runs, &RUNS, &["applied", "repaired", "unchanged", "waiting", "failed"]);
        from_zero(&metrics.reloads, &RELOADS, &["ok", "failed"]);
        from_zero(&metrics.rollbacks, &ROLLBACKS, &["restored", "nothing", "failed"]);
        from_zero(&metrics.netlink, &NETLINK, &LinkOp::KINDS);
        from_zero(&metrics.netlink, &NETLINK, &RouterOp::NETLINK);
        from_zero(&metrics.repairs, &REPAIRS, &["links", "frr", "file", "router"]);
        metrics
    }
}

/// The value of a metric's one label.
fn of(metric: &Metric, value: impl Into<String>) -> Labels {
    metric.labels.first().map(|label| (*label, value.into())).into_iter().collect()
}

impl AgentMetrics {
    /// Has a registry tell of all of them.
    pub(super) fn register(&self, registry: &mut Registry) {
        fn add(registry: &mut Registry, metric: &Metric, values: impl Registered) {
            registry.register(metric.name, metric.help, values);
        }
        add(registry, &RUNS, self.runs.clone());
        add(registry, &STEP, self.steps.clone());
        add(registry, &RELOADS, self.reloads.clone());
        add(registry, &ROLLBACKS, self.rollbacks.clone());
        add(registry, &REPAIRS, self.repairs.clone());
        add(registry, &REJECTED, self.rejected.clone());
        add(registry, &ACCEPTED, self.accepted.clone());
        add(registry, &BEHIND, self.behind.clone());
        add(registry, &API_SERVER, self.api_server.clone());
        add(registry, &DEBOUNCE, self.debounce.clone());
        add(registry, &NETLINK, self.netlink.clone());
        add(registry, &CHECK, self.checks.clone());
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version of network-operator", Info::new(version));
    }

    /// A run ended; `result` is one of those that `RUNS` names.
    pub fn run(&self, result: &'static str, due: Due, took: Duration) {
        self.runs.get_or_create(&of(&RUNS, result)).inc();
        let step = match due {
            Due::Change => "run",
            Due::Drift => "look",
        };
        self.step(step, took);
    }

    /// A step of a run took so long.
    pub(super) fn step(&self, step: &'static str, took: Duration) {
        self.steps.get_or_create(&of(&STEP, step)).observe(took.as_secs_f64());
    }

    /// Does a step of a run, and counts how long it takes.
    pub async fn timed<T>(&self, step: &'static str, work: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let result = work.await;
        self.step(step, begin.elapsed());
        result
    }

    /// frr.service was reloaded, started or restarted.
    pub(super) fn reload(&self, good: bool) {
        self.reloads.get_or_create(&of(&RELOADS, if good { "ok" } else { "failed" })).inc();
    }

    /// Where the pipeline tells how long its steps took.
    pub fn steps(&self) -> Steps {
        let metrics = self.clone();
        Steps::new(move |step, took| metrics.step(step, took))
    }

    /// The kernel has made a change of a link.
    pub(super) fn link(&self, op: &LinkOp) {
        self.netlink.get_or_create(&of(&NETLINK, op.kind())).inc();
    }

    /// The eBPF router was changed; what is a matter of pins and maps alone asks nothing over netlink.
    pub fn router(&self, ops: &[&RouterOp]) {
        for kind in ops.iter().filter_map(|op| op.netlink()) {
            self.netlink.get_or_create(&of(&NETLINK, kind)).inc();
        }
    }

    /// What somebody had moved was put back.
    pub fn repaired(&self, outcome: &Outcome) {
        let Outcome { written, frr_lines, link_operations, router_operations, .. } = outcome;
        let what = [
            ("file", *written),
            ("frr", *frr_lines > 0),
            ("links", *link_operations > 0),
            ("router", *router_operations > 0),
        ];
        for (what, _) in what.iter().filter(|(_, moved)| *moved) {
            self.put_back(what);
        }
    }

    /// One thing was; `what` is one of those that `REPAIRS` names.
    pub fn put_back(&self, what: &'static str) {
        self.repairs.get_or_create(&of(&REPAIRS, what)).inc();
    }

    /// A run failed.
    pub fn failed(&self, error: &RunError) {
        let (RunError::NotTaken { restored, .. } | RunError::NotVerified { restored, .. }) = error else { return };
        let result = match restored {
            Restored::LastGood => "restored",
            Restored::Nothing => "nothing",
            Restored::Failed(_) => "failed",
        };
        self.rollbacks.get_or_create(&of(&ROLLBACKS, result)).inc();
    }

    /// The last run left these objects out.
    pub fn rejected(&self, rejections: &[Rejection]) {
        self.rejected.clear();
        for rejection in rejections {
            self.rejected.get_or_create(&of(&REJECTED, format!("{:?}", rejection.reason))).inc();
        }
    }

    /// Whether there are newer inputs than those in force, which cannot be applied.
    pub fn behind(&self, behind: bool) {
        self.behind.set(behind.into());
    }

    /// Whether the API server answers the watch of objects, and tells of their CRD.
    pub fn api_server(&self, answers: bool) {
        self.api_server.get_or_create(&Labels::new()).set(answers.into());
    }

    /// When the inputs in force were first accepted as they are.
    pub fn accepted(&self, since: Option<Timestamp>) {
        self.accepted.set(since.unwrap_or_default().as_duration().as_secs_f64());
    }

    /// A change waited so long for its run.
    pub fn waited(&self, wait: Duration) {
        self.debounce.observe(wait.as_secs_f64());
    }

    /// What the last round of checks came to.
    pub fn checked(&self, check: &impl std::fmt::Display, passed: bool) {
        self.checks.get_or_create(&of(&CHECK, check.to_string())).set(passed.into());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::desired::RejectionReason;
    use crate::metrics::{OWN, PREFIX};

    #[test]
    fn all_that_the_catalogue_names_is_told() {
        let metrics = AgentMetrics::default();
        metrics.run("failed", Due::Change, Duration::from_secs(3));
        metrics.reload(false);
        let restored = Restored::LastGood;
        metrics.failed(&RunError::NotVerified { why: String::new(), restored });
        metrics.repaired(&Outcome { frr_lines: 2, written: true, ..Outcome::default() });
        metrics.behind(false);
        metrics.api_server(true);
        let text = String::new;
        let reason = RejectionReason::InvalidValue;
        metrics.rejected(&[Rejection { object: text(), field: text(), reason, message: text(), cure: text() }]);
        metrics.waited(Duration::from_secs(10));
        metrics.link(&LinkOp::SetUp { name: "vr.a".parse().unwrap() });
        metrics.router(&[&RouterOp::Attach { link: "vr.a".parse().unwrap() }, &RouterOp::Load]);
        metrics.checked(&"frr", true);
        let mut registry = Registry::with_prefix(PREFIX);
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for metric in OWN {
            assert!(text.contains(&format!("# HELP {PREFIX}_{} {}.\n", metric.name, metric.help)), "{}", metric.name);
        }
        for sample in [
            "runs_total{result=\"failed\"} 1",
            "step_duration_seconds_count{step=\"run\"} 1",
            "rollbacks_total{result=\"restored\"} 1",
            "repairs_total{what=\"file\"} 1",
            "repairs_total{what=\"frr\"} 1",
            "netlink_operations_total{operation=\"set-up\"} 1",
            "netlink_operations_total{operation=\"attach\"} 1",
            "netlink_operations_total{operation=\"delete\"} 0",
            "check_passed{check=\"frr\"} 1",
            "debounce_wait_seconds_sum 10.0",
            "api_server_answers 1",
        ] {
            assert!(text.contains(&format!("\n{PREFIX}_{sample}\n")), "{sample} in {text}");
        }
        assert!(!text.contains("operation=\"load\""), "{text}");
    }
}
