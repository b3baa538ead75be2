//! One step on the way from the links that are seen to those that are wanted. Data, to be printed and tested.

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::{AddrGenMode, LinkRole, OwnedName};
use crate::model::{IfName, RouteTable, Vni, VrfName};

/// UDP port of VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// One netlink message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum LinkOp {
    /// Makes a VRF, down.
    CreateVrf {
        /// `vr.V`.
        name: IfName,
        /// Its routing table.
        table: RouteTable,
    },
    /// Makes a bridge, down.
    CreateBridge {
        /// `br.V`.
        name: IfName,
        /// `vr.V`.
        master: IfName,
        /// The router's MAC.
        mac: MacAddr,
        /// In bytes.
        mtu: u32,
    },
    /// Makes a VXLAN without learning, down.
    CreateVxlan {
        /// `vx.V`.
        name: IfName,
        /// `br.V`.
        master: IfName,
        /// Its VNI.
        vni: Vni,
        /// The VTEP.
        local: Ipv4Addr,
        /// The underlay interface.
        dev: IfName,
        /// The router's MAC.
        mac: MacAddr,
        /// In bytes.
        mtu: u32,
    },
    /// Makes a veth pair, down.
    CreateVeth {
        /// `vd.V`.
        name: IfName,
        /// `dv.V`.
        peer: IfName,
        /// `vr.V`.
        master: IfName,
        /// MAC of `vd.V`.
        mac: MacAddr,
        /// MAC of `dv.V`.
        peer_mac: MacAddr,
        /// In bytes, both ends.
        mtu: u32,
    },
    /// Changes what differs on a link.
    Change {
        /// Which link.
        name: IfName,
        /// What is set.
        #[serde(flatten)]
        change: LinkChange,
    },
    /// Sets a link up.
    SetUp {
        /// Which link.
        name: IfName,
    },
    /// Sets a link down.
    SetDown {
        /// Which link.
        name: IfName,
    },
    /// Deletes a link; of a veth pair both ends go.
    Delete {
        /// Which link.
        name: IfName,
    },
}

/// Attributes that are set in one message; what is `None` or false stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinkChange {
    /// Carry our mark.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mark: bool,
    /// Under this VRF or bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<IfName>,
    /// Out of whatever VRF or bridge it is in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_master: bool,
    /// Have this MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Have this MTU, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Make link-local addresses this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addr_gen_mode: Option<AddrGenMode>,
    /// As a bridge port: learning off, hairpin on, neighbour suppression off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overlay_port: bool,
}

/// A VRF whose links cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkProblem {
    /// Which VRF.
    pub vrf: VrfName,
    /// What is in the way.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// What is to be done, in phases: the configuration is reloaded before the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinkPlan {
    /// Makes and changes links; new ones stay down.
    pub create: Vec<LinkOp>,
    /// Sets links up, once zebra has mapped VNIs to VRFs.
    pub activate: Vec<LinkOp>,
    /// Deletes links that nobody wants any more.
    pub remove: Vec<LinkOp>,
    /// VRFs that are left out.
    pub problems: Vec<LinkProblem>,
}

impl LinkOp {
    /// All that [`LinkOp::kind`] gives.
    pub const KINDS: [&str; 8] =
        ["create-vrf", "create-bridge", "create-vxlan", "create-veth", "change", "set-up", "set-down", "delete"];

    /// What is done, in the word that `plan --output json` has for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateVrf { .. } => "create-vrf",
            Self::CreateBridge { .. } => "create-bridge",
            Self::CreateVxlan { .. } => "create-vxlan",
            Self::CreateVeth { .. } => "create-veth",
            Self::Change { .. } => "change",
            Self::SetUp { .. } => "set-up",
            Self::SetDown { .. } => "set-down",
            Self::Delete { .. } => "delete",
        }
    }

    /// The VRF whose link of that role is deleted.
    pub fn deletes(&self, role: LinkRole) -> Option<VrfName> {
        let Self::Delete { name } = self else { return None };
        OwnedName::recognise(name.as_str()).filter(|name| name.role == role).map(|name| name.vrf)
    }
}

impl LinkPlan {
    /// All steps, in order.
    pub fn ops(&self) -> impl Iterator<Item = &LinkOp> {
        self.create.iter().chain(&self.activate).chain(&self.remove)
    }

    /// The VXLANs that go, and the plan without them: they must be gone before FRR loses their VNIs, because a VXLAN whose VNI no
    /// VRF has is a layer-2 one to zebra.
    pub fn unplug(&self) -> (Vec<LinkOp>, Self) {
        let vxlan = |op: &&LinkOp| op.deletes(LinkRole::Vxlan).is_some();
        let first = self.create.iter().chain(&self.remove).filter(vxlan).cloned().collect();
        let without = |ops: &[LinkOp]| ops.iter().filter(|op| !vxlan(op)).cloned().collect();
        (first, Self { create: without(&self.create), remove: without(&self.remove), ..self.clone() })
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.ops().next().is_none()
    }
}

impl LinkChange {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for LinkOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateVrf { name, table } => write!(f, "create vrf {name} table {table}"),
            Self::CreateBridge { name, master, mac, mtu } => {
                write!(f, "create bridge {name} master {master} address {mac} mtu {mtu}")
            }
            Self::CreateVxlan { name, master, vni, local, dev, mac, mtu } => write!(
                f,
                "create vxlan {name} master {master} id {vni} local {local} dev {dev} dstport {VXLAN_PORT} nolearning address {mac} mtu {mtu}"
            ),
            Self::CreateVeth { name, peer, master, mac, peer_mac, mtu } => {
                write!(f, "create veth {name} address {mac} peer {peer} address {peer_mac} master {master} mtu {mtu}")
            }
            Self::Change { name, change } => write!(f, "change {name}{change}"),
            Self::SetUp { name } => write!(f, "up {name}"),
            Self::SetDown { name } => write!(f, "down {name}"),
            Self::Delete { name } => write!(f, "delete {name}"),
        }
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mark, master, no_master, mac, mtu, addr_gen_mode, overlay_port } = self;
        if let Some(master) = master {
            write!(f, " master {master}")?;
        }
        if *no_master {
            f.write_str(" nomaster")?;
        }
        if let Some(mac) = mac {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(mode) = addr_gen_mode {
            write!(f, " addrgenmode {}", if *mode == AddrGenMode::Eui64 { "eui64" } else { "none" })?;
        }
        if *overlay_port {
            f.write_str(" learning off hairpin on neigh_suppress off")?;
        }
        if *mark {
            write!(f, " alias {}", super::MARK)?;
        }
        Ok(())
    }
}
