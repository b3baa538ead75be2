//! What outlives a restart: the inputs of the last verified run, facts of the pipeline, the last good frr.conf.

mod document;
mod store;

pub use document::{Accepted, Facts, State};
pub use store::{Saved, StateError, Store};
