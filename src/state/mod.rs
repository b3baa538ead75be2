//! What outlives a restart: the inputs of the last run that got to its end, facts of the pipeline, the last good frr.conf.

mod document;
mod store;

pub use document::{Accepted, Facts, State};
pub use store::{StateError, Store};
