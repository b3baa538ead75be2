//! Kernel links: names, what is wanted, what is seen, the plan between them (pure), and netlink (adapter).

mod desired;
mod error;
mod name;
pub mod netlink;
mod observed;
mod op;
mod plan;

pub use desired::{DesiredLinks, VrfLinks};
pub use error::LinkError;
pub use name::{LinkRole, MARK, OwnedName};
pub use observed::{AddrGenMode, BridgePort, Kind, ObservedLink, ObservedLinks, Underlay, UnderlayError};
pub use op::{LinkChange, LinkOp, LinkPlan, LinkProblem, MacAddr, VXLAN_PORT};
pub use plan::{owned, plan};
