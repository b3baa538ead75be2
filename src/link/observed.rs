//! The links of a node as the kernel shows them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::MacAddr;
use crate::model::IfName;

/// All links of the node's network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedLinks {
    by_name: BTreeMap<String, ObservedLink>,
}

/// One link. Attributes that the plan does not look at are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLink {
    /// Interface index.
    pub index: u32,
    /// Interface name (IFLA_IFNAME).
    pub name: String,
    /// IFLA_IFALIAS.
    pub alias: Option<String>,
    /// IFLA_ADDRESS of Ethernet-like links.
    pub mac: Option<MacAddr>,
    /// IFLA_MTU in bytes.
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// Index of the VRF or bridge above (IFLA_MASTER).
    pub master: Option<u32>,
    /// IFLA_INET6_ADDR_GEN_MODE; `None` where IPv6 is off for the link.
    pub addr_gen_mode: Option<AddrGenMode>,
    /// What kind of link it is, with the attributes of that kind.
    pub kind: Kind,
    /// Attributes as a port of a bridge (IFLA_INFO_SLAVE_DATA).
    pub port: Option<BridgePort>,
    /// IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
}

/// IFLA_INFO_KIND and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A VRF.
    Vrf {
        /// IFLA_VRF_TABLE.
        table: u32,
    },
    /// A bridge.
    Bridge,
    /// A VXLAN.
    Vxlan {
        /// IFLA_VXLAN_ID.
        vni: u32,
        /// IFLA_VXLAN_LOCAL.
        local: Option<Ipv4Addr>,
        /// IFLA_VXLAN_LINK, the lower device.
        lower: Option<u32>,
        /// IFLA_VXLAN_PORT.
        port: u16,
        /// IFLA_VXLAN_LEARNING.
        learning: bool,
    },
    /// One end of a veth pair.
    Veth {
        /// Index of the other end, where it is in this network namespace (IFLA_LINK).
        peer: Option<u32>,
    },
    /// Anything else.
    Other(String),
}

/// How a link makes its IPv6 link-local address (IFLA_INET6_ADDR_GEN_MODE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddrGenMode {
    /// From its MAC address (RFC 4291 §2.5.1).
    Eui64,
    /// It makes none.
    None,
    /// Stable private or random.
    Other,
}

/// Attributes of a bridge port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgePort {
    /// IFLA_BRPORT_LEARNING.
    pub learning: bool,
    /// IFLA_BRPORT_MODE.
    pub hairpin: bool,
    /// IFLA_BRPORT_NEIGH_SUPPRESS.
    pub neigh_suppress: bool,
}

/// The link that carries the VXLAN packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Its name.
    pub name: IfName,
    /// Its index.
    pub index: u32,
    /// Its one IPv4 address: VTEP and router ID.
    pub ip: Ipv4Addr,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Why the underlay interface cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnderlayError {
    /// There is no such link.
    #[error(
        "underlay interface {name} is not there: create it, or name another one as underlayInterface in the operator file"
    )]
    Missing {
        /// Its name.
        name: IfName,
    },
    /// Nobody can say which address is meant.
    #[error("underlay interface {name} has {}, but exactly one IPv4 address must be on it: VTEP and router ID of this node", addresses(.found))]
    Addresses {
        /// Its name.
        name: IfName,
        /// What is there.
        found: Vec<Ipv4Addr>,
    },
}

fn addresses(found: &[Ipv4Addr]) -> String {
    match found {
        [] => "no IPv4 address".to_owned(),
        several => several.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}

impl ObservedLinks {
    /// Indexes links by name.
    pub fn new(links: impl IntoIterator<Item = ObservedLink>) -> Self {
        Self { by_name: links.into_iter().map(|link| (link.name.clone(), link)).collect() }
    }

    /// The link of that name.
    pub fn get(&self, name: &str) -> Option<&ObservedLink> {
        self.by_name.get(name)
    }

    /// All links, by name.
    pub fn iter(&self) -> impl Iterator<Item = &ObservedLink> {
        self.by_name.values()
    }

    /// The underlay: link, address, MTU.
    ///
    /// # Errors
    /// No such link, or no single IPv4 address on it.
    pub fn underlay(&self, name: &IfName) -> Result<Underlay, UnderlayError> {
        let link = self.get(name.as_str()).ok_or_else(|| UnderlayError::Missing { name: name.clone() })?;
        match link.ipv4.as_slice() {
            [ip] => Ok(Underlay { name: name.clone(), index: link.index, ip: *ip, mtu: link.mtu }),
            found => Err(UnderlayError::Addresses { name: name.clone(), found: found.to_vec() }),
        }
    }
}
