//! The long tests (`make soak`): hundreds of change sets on real nodes, which takes about two hours.
//!
//! `SOAK_SCALE=10` makes it a tenth. Each test prints a line per ten cycles, and one at its end that sums it up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that fails must stop, and a long one must show where it is"
)]
#![allow(unreachable_pub, reason = "the modules of a test binary")]

mod cycles;
mod foretold;
mod killed;
#[path = "../lab/mod.rs"]
mod lab;
mod no_flap;
mod objects;
mod progress;
mod rig;
mod scale;
