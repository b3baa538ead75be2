//! What deploy/ holds is one thing said once, accepted by an API server, and enough for the agent, with nothing spare.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails must stop"
)]

mod capabilities;
mod chart;
mod container;
#[path = "../lab/mod.rs"]
mod lab;
mod policy;
mod rendered;
mod rights;
mod server;
mod unit;
mod values;
mod webhook;
