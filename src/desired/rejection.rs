//! An object that is left out, and what its author can do about it.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// Why one object is left out. The others apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Name of the object, or the file and document it was read from where it has none.
    pub object: String,
    /// Path of the field, such as `spec.import[2].ge`.
    pub field: String,
    /// A word for machines.
    pub reason: RejectionReason,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// The kinds of rejection.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RejectionReason {
    /// It is no `VRFRouteConfiguration` that can be read.
    Unreadable,
    /// Another document has the same name.
    DuplicateName,
    /// A field holds a value outside of its range or form.
    InvalidValue,
    /// The operator file does not name the VRF.
    UnknownVrf,
    /// The operator file names the VRF, but what it says of it cannot be used.
    RefusedVrf,
    /// It has IPv6 routes, and the template has no place for them.
    NoIpv6Hint,
    /// Two items of one list have one sequence number.
    DuplicateItem,
    /// An older object of the VRF has the same `seq`.
    DuplicateSeq,
    /// An older object of the VRF has another MTU.
    ConflictingMtu,
    /// An older object has the same aggregate.
    DuplicateAggregate,
}

impl RejectionReason {
    /// Whether it comes of an object and an older one together.
    pub fn is_of_two(self) -> bool {
        matches!(self, Self::DuplicateSeq | Self::ConflictingMtu | Self::DuplicateAggregate)
    }
}

impl Rejection {
    /// All of it in one line, as people see it.
    pub fn with_reason(&self) -> String {
        format!("{self} ({:?})", self.reason)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, field, reason: _, message, cure } = self;
        write!(f, "{object}: {field}: {message}; {cure}")
    }
}
