//! All that needs the lab, in one executable: nodes wait for each other's FRR most of the time, so tests run beside each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails must stop"
)]

mod at_scale;
mod drift;
mod fabric;
mod faults;
mod frames;
mod health;
mod kube_api;
#[path = "../lab/mod.rs"]
mod lab;
mod lab_itself;
mod main_job;
mod metrics;
mod migration;
mod netlink;
mod newcomer;
mod notrack;
mod packets;
mod reboot;
mod router;
mod shown;
mod state;
mod status;
mod trust;
mod vteps;
mod webhook;
mod world;
