//! The eBPF router: where it is attached, what is wanted, seen and to be done (pure); the program, its maps and filters (adapters).
//!
//! A packet of a VRF goes from the interface that it comes in on to the one that its route leaves by, without the host's
//! netfilter and conntrack. `router.bpf.c` says which packets, docs/ebpf.md why.

pub mod counters;
mod filters;
pub mod host;
mod observed;
mod op;
mod outlook;
pub mod pins;
mod plan;
pub mod program;

pub use observed::{ObservedRouter, Port, SeenFilter, SeenLink};
pub use op::{RouterOp, RouterPlan, RouterProblem};
pub use plan::{DesiredRouter, plan};
