//! What is told of a node, and what that comes to over all nodes.

pub mod collect;
mod condition;
mod events;
pub mod known;
pub mod lease;
mod limit;
pub mod news;
pub mod node;
pub mod publish;
mod start;
pub mod summary;

pub(crate) use condition::shortened;
pub(crate) use limit::{REQUEST, within};
pub use start::{Started, start};
