//! All metrics, by name.

use super::Kind::{Counter, Gauge, Histogram};
use super::{Kind, Metric};

const fn metric(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, help, kind, labels }
}

const ROUTE: &[&str] = &["vrf", "family", "protocol"];
const NEIGHBOR: &[&str] = &["vrf", "neighbor"];
const PREFIXES: &[&str] = &["vrf", "neighbor", "family"];
const PACKETS: &[&str] = &["verdict", "reason", "fib"];

pub(super) static FRR_ROUTES: Metric =
    metric("frr_routes", Gauge, ROUTE, "Routes in zebra's RIB, by VRF, address family and protocol");
pub(super) static FRR_FIB_ROUTES: Metric =
    metric("frr_fib_routes", Gauge, ROUTE, "Routes of zebra's RIB that it has in the kernel");
pub(super) static VNI_UP: Metric =
    metric("frr_vni_up", Gauge, &["vrf", "vni"], "Whether zebra calls the L3 VNI of a VRF up (1) or not (0)");
pub(super) static BGP_STATE: Metric = metric(
    "frr_bgp_state",
    Gauge,
    NEIGHBOR,
    "State of a BGP session as in RFC 4273: 1 idle, 2 connect, 3 active, 4 opensent, 5 openconfirm, 6 established; 0 shut down by its administrator, or FRR's own",
);
pub(super) static BGP_UPTIME: Metric =
    metric("frr_bgp_uptime_seconds", Gauge, NEIGHBOR, "For how long a BGP session is established; 0 where it is not");
pub(super) static BGP_PREFIXES_RECEIVED: Metric = metric(
    "frr_bgp_prefixes_received",
    Gauge,
    PREFIXES,
    "Prefixes that a BGP neighbor sent and that its policy in lets pass",
);
pub(super) static BGP_PREFIXES_SENT: Metric =
    metric("frr_bgp_prefixes_sent", Gauge, PREFIXES, "Prefixes sent to a BGP neighbor");
pub(super) static BGP_MESSAGES_RECEIVED: Metric =
    metric("frr_bgp_messages_received", Counter, NEIGHBOR, "BGP messages from a neighbor");
pub(super) static BGP_MESSAGES_SENT: Metric =
    metric("frr_bgp_messages_sent", Counter, NEIGHBOR, "BGP messages to a neighbor");
pub(super) static KERNEL_ROUTES: Metric = metric(
    "kernel_routes",
    Gauge,
    ROUTE,
    "Routes in the kernel's main table (VRF default), in those of VRFs, and in others (VRF other), by who made them (rtnetlink's protocol)",
);
pub(super) static KERNEL_NEIGHBORS: Metric = metric(
    "kernel_neighbors",
    Gauge,
    &["family", "state"],
    "Entries of the kernel's neighbour tables (ARP, ND), by state",
);
pub(super) static BPF_PACKETS: Metric =
    metric("bpf_packets", Counter, PACKETS, "Packets at the eBPF router, by what was done with them and why");
pub(super) static BPF_BYTES: Metric =
    metric("bpf_bytes", Counter, PACKETS, "Bytes of these packets, with their Ethernet header");
pub(super) static SCRAPE_SECONDS: Metric = metric(
    "scrape_duration_seconds",
    Gauge,
    &["collector"],
    "How long a collector took for this answer: zebra, bgpd, kernel or bpf",
);
pub(super) static SCRAPE_SUCCESS: Metric =
    metric("scrape_success", Gauge, &["collector"], "Whether a collector could tell (1) or not (0)");

/// What is asked for when somebody asks, by `run` and by `exporter`.
pub static ALL: &[&Metric] = &[
    &FRR_ROUTES,
    &FRR_FIB_ROUTES,
    &VNI_UP,
    &BGP_STATE,
    &BGP_UPTIME,
    &BGP_PREFIXES_RECEIVED,
    &BGP_PREFIXES_SENT,
    &BGP_MESSAGES_RECEIVED,
    &BGP_MESSAGES_SENT,
    &KERNEL_ROUTES,
    &KERNEL_NEIGHBORS,
    &BPF_PACKETS,
    &BPF_BYTES,
    &SCRAPE_SECONDS,
    &SCRAPE_SUCCESS,
];

pub(super) static RUNS: Metric = metric(
    "runs",
    Counter,
    &["result"],
    "Runs, by what they came to: applied, repaired, unchanged, waiting (no inputs yet), failed",
);
pub(super) static STEP: Metric = metric(
    "step_duration_seconds",
    Histogram,
    &["step"],
    "How long a step took, and the whole of a run for a change (step run) or of a look at the node (look); docs/metrics.md lists the steps",
);
pub(super) static RELOADS: Metric =
    metric("reloads", Counter, &["result"], "Reloads, starts and restarts of frr.service by the agent: ok or failed");
pub(super) static ROLLBACKS: Metric = metric(
    "rollbacks",
    Counter,
    &["result"],
    "Changes that FRR did not take: restored (the last good configuration runs again), nothing (there is none), failed",
);
pub(super) static REPAIRS: Metric = metric(
    "repairs",
    Counter,
    &["what"],
    "What was put back, because somebody had moved it: links, frr (lines), file (frr.conf), router",
);
pub(super) static REJECTED: Metric =
    metric("rejected_objects", Gauge, &["reason"], "Objects that the last run left out, by reason");
pub(super) static ACCEPTED: Metric = metric(
    "inputs_accepted_timestamp_seconds",
    Gauge,
    &[],
    "When the inputs in force were accepted as they are (seconds since 1970); 0 before",
);
pub(super) static BEHIND: Metric =
    metric("inputs_behind", Gauge, &[], "Whether there are newer inputs that cannot be applied (1) or not (0)");
pub(super) static API_SERVER: Metric = metric(
    "api_server_answers",
    Gauge,
    &[],
    "Whether the API server answers the watch of objects and tells of their CRD (1) or not (0); nothing where they come from files",
);
pub(super) static DEBOUNCE: Metric = metric(
    "debounce_wait_seconds",
    Histogram,
    &[],
    "How long a change waited for its run: the window, and a run under way",
);
pub(super) static NETLINK: Metric = metric(
    "netlink_operations",
    Counter,
    &["operation"],
    "Changes of links, tc filters and nftables that the kernel has made for the agent",
);
pub(super) static CHECK: Metric = metric(
    "check_passed",
    Gauge,
    &["check"],
    "Whether a check of the node's health passed in its last round (1) or not (0)",
);

/// What the agent counts of its own work.
pub static OWN: &[&Metric] = &[
    &RUNS,
    &STEP,
    &RELOADS,
    &ROLLBACKS,
    &REPAIRS,
    &REJECTED,
    &ACCEPTED,
    &BEHIND,
    &API_SERVER,
    &DEBOUNCE,
    &NETLINK,
    &CHECK,
];
