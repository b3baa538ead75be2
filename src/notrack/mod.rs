//! Traffic that connection tracking leaves alone: what is wanted and what is seen (pure), and nftables (adapter).
//!
//! It is told by one nftables table of our own, `inet network-operator`:
//!
//! ```text
//! set links { type ifname }
//! chain prerouting { type filter hook prerouting priority raw; policy accept;
//!     iifname @links notrack
//!     ip daddr VTEP udp dport 4789 notrack
//! }
//! chain output { type filter hook output priority raw; policy accept;
//!     oifname @links notrack
//!     ip saddr VTEP udp dport 4789 notrack
//! }
//! ```

mod error;
mod message;
pub mod netfilter;
mod packet;
mod recognise;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

pub use error::NotrackError;
pub use packet::tells_of_our_table;

use serde::Serialize;

use crate::model::IfName;

/// What is not tracked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notrack {
    /// Packets that come in or go out by these links, whether the links are there or not.
    pub links: BTreeSet<IfName>,
    /// VXLAN to and from this address.
    pub vtep: Option<Ipv4Addr>,
}

/// What our table says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ObservedNotrack {
    /// There is no such table.
    #[default]
    Absent,
    /// Exactly what we write for this.
    Rules(Notrack),
    /// Something that we do not write: somebody changed it.
    Altered,
}

impl fmt::Display for Notrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, vtep } = self;
        let mut what: Vec<String> = links.iter().map(ToString::to_string).collect();
        what.extend(vtep.map(|vtep| format!("VXLAN of {vtep}")));
        f.write_str(&what.join(", "))
    }
}
