//! The links of a plan as somebody makes them by hand.

use std::fmt::Write as _;

use network_operator::link::{AddrGenMode, LinkChange, LinkOp, MARK};

/// What `ip -batch` is given to make the same links.
pub fn batch<'a>(ops: impl IntoIterator<Item = &'a LinkOp>) -> String {
    ops.into_iter().map(|op| line(op) + "\n").collect()
}

/// The line of `ip -batch` that does the same in one message.
fn line(op: &LinkOp) -> String {
    match op {
        LinkOp::CreateVrf { name, table } => format!("link add {name} type vrf table {table}"),
        LinkOp::CreateBridge { name, master, mac, mtu } => {
            format!("link add {name} address {mac} mtu {mtu} master {master} type bridge")
        }
        LinkOp::CreateVxlan { name, master, vni, local, dev, mac, mtu } => format!(
            "link add {name} address {mac} mtu {mtu} master {master} type vxlan id {vni} local {local} dev {dev} dstport 4789 nolearning"
        ),
        LinkOp::CreateVeth { name, peer, master, mac, peer_mac, mtu } => format!(
            "link add {name} address {mac} mtu {mtu} master {master} type veth peer name {peer} address {peer_mac} mtu {mtu}"
        ),
        LinkOp::Change { name, change } => {
            let LinkChange { mark, master, no_master: false, mac: None, mtu: None, addr_gen_mode, overlay_port } =
                change
            else {
                panic!("no part of making links: {op:?}")
            };
            let mut line = format!("link set dev {name}");
            if *mark {
                write!(line, " alias {MARK}").unwrap();
            }
            if let Some(master) = master {
                write!(line, " master {master}").unwrap();
            }
            match addr_gen_mode {
                Some(AddrGenMode::None) => line += " addrgenmode none",
                Some(AddrGenMode::Eui64) => line += " addrgenmode eui64",
                _ => {}
            }
            if *overlay_port {
                line += " type bridge_slave learning off hairpin on neigh_suppress off";
            }
            line
        }
        LinkOp::SetUp { name } => format!("link set dev {name} up"),
        LinkOp::SetDown { .. } | LinkOp::Delete { .. } => panic!("no part of making links: {op:?}"),
    }
}
