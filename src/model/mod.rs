//! The words of the trade as types: each value is parsed once and carries its proof with it.

mod bgp;
mod name;
mod number;
mod policy;

pub use bgp::{Asn, Community, RouteTarget};
pub use name::{IfName, VrfName};
pub use number::{Mtu, RouteTable, RouteTables, Seq, Vni};
pub use policy::{Action, PrefixRule, PrefixRuleError};

/// Why a value was refused: what it was, and what is allowed instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct Invalid {
    /// The value as it was given.
    pub value: String,
    /// What stands in its place in a good configuration.
    pub expected: &'static str,
}

impl Invalid {
    /// Pairs a refused value with what was expected.
    pub fn new(value: impl ToString, expected: &'static str) -> Self {
        Self { value: value.to_string(), expected }
    }
}
