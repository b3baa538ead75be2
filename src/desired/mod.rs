//! What the objects ask for: objects and operator file in, one `DesiredState` and the rejections out. Pure.

mod judge;
mod rejection;
mod state;

pub use judge::{Ipv6, Judged, judge};
pub use rejection::{Rejection, RejectionReason};
pub use state::{DesiredState, NodeFacts, Overlay, RoutePolicy, Vrf};
