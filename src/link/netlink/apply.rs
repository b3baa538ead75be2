//! Writes links: one operation, one message.

use nix::errno::Errno;
use rtnetlink::packet_core::ErrorMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    InfoVeth, InfoVrf, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{Error, Handle};

use crate::link::{AddrGenMode, LinkChange, LinkError, LinkOp, MARK, MacAddr, VXLAN_PORT};
use crate::model::IfName;

pub(super) async fn apply(handle: &Handle, op: &LinkOp) -> Result<(), LinkError> {
    let result = match op {
        LinkOp::CreateVrf { name, table } => {
            let data = InfoData::Vrf(vec![InfoVrf::TableId(table.get())]);
            handle.link().add(create(name, InfoKind::Vrf, Some(data), [])).execute().await
        }
        LinkOp::CreateBridge { name, master, mac, mtu } => {
            let shape = [LinkAttribute::Controller(index(op, master)?), address(*mac), LinkAttribute::Mtu(*mtu)];
            handle.link().add(create(name, InfoKind::Bridge, None, shape)).execute().await
        }
        LinkOp::CreateVxlan { name, master, vni, local, dev, mac, mtu } => {
            let data = InfoData::Vxlan(vec![
                InfoVxlan::Id(vni.get()),
                InfoVxlan::Local(*local),
                InfoVxlan::Link(index(op, dev)?),
                InfoVxlan::Port(VXLAN_PORT),
                InfoVxlan::Learning(false),
            ]);
            let shape = [LinkAttribute::Controller(index(op, master)?), address(*mac), LinkAttribute::Mtu(*mtu)];
            handle.link().add(create(name, InfoKind::Vxlan, Some(data), shape)).execute().await
        }
        LinkOp::CreateVeth { name, peer, master, mac, peer_mac, mtu } => {
            let mut end = LinkMessage::default();
            end.attributes =
                vec![LinkAttribute::IfName(peer.to_string()), address(*peer_mac), LinkAttribute::Mtu(*mtu)];
            let data = InfoData::Veth(InfoVeth::Peer(end));
            let shape = [LinkAttribute::Controller(index(op, master)?), address(*mac), LinkAttribute::Mtu(*mtu)];
            handle.link().add(create(name, InfoKind::Veth, Some(data), shape)).execute().await
        }
        LinkOp::Change { name, change } => handle.link().change(changed(op, name, change)?).execute().await,
        LinkOp::SetUp { name } => handle.link().change(admin(name, LinkFlags::Up)).execute().await,
        LinkOp::SetDown { name } => handle.link().change(admin(name, LinkFlags::empty())).execute().await,
        LinkOp::Delete { name } => {
            let mut request = handle.link().del(0);
            *request.message_mut() = named(name);
            request.execute().await
        }
    };
    result.map_err(|error| refused(op, error))
}

fn create<const N: usize>(
    name: &IfName,
    kind: InfoKind,
    data: Option<InfoData>,
    shape: [LinkAttribute; N],
) -> LinkMessage {
    let mut message = named(name);
    message.attributes.extend(shape);
    let info = std::iter::once(LinkInfo::Kind(kind)).chain(data.map(LinkInfo::Data));
    message.attributes.push(LinkAttribute::LinkInfo(info.collect()));
    message
}

fn address(mac: MacAddr) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}

fn admin(name: &IfName, flags: LinkFlags) -> LinkMessage {
    let mut message = named(name);
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    message
}

/// The kernel finds a link that is there by its name, too (`rtnl_dev_get` of its net/core/rtnetlink.c): its index need not be asked for.
fn named(name: &IfName) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    message
}

fn changed(op: &LinkOp, name: &IfName, change: &LinkChange) -> Result<LinkMessage, LinkError> {
    let LinkChange { mark, master, no_master, mac, mtu, addr_gen_mode, overlay_port } = change;
    let mut message = named(name);
    let attributes = &mut message.attributes;
    if *mark {
        attributes.push(LinkAttribute::IfAlias(MARK.to_owned()));
    }
    if let Some(master) = master {
        attributes.push(LinkAttribute::Controller(index(op, master)?));
    }
    if *no_master {
        attributes.push(LinkAttribute::Controller(0));
    }
    attributes.extend(mac.map(address));
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    if let Some(mode) = addr_gen_mode {
        let mode = if *mode == AddrGenMode::Eui64 { In6AddrGenMode::Eui64 } else { In6AddrGenMode::None };
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
        attributes.push(LinkAttribute::AfSpecUnspec(vec![inet6]));
    }
    if *overlay_port {
        let port = vec![
            InfoBridgePort::Learning(false),
            InfoBridgePort::HairpinMode(true),
            InfoBridgePort::NeighSupress(false),
        ];
        attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(port)),
        ]));
    }
    Ok(message)
}

fn index(op: &LinkOp, name: &IfName) -> Result<u32, LinkError> {
    nix::net::if_::if_nametoindex(name.as_str())
        .map_err(|_| LinkError::Gone { op: Box::new(op.clone()), missing: name.to_string() })
}

fn refused(op: &LinkOp, error: Error) -> LinkError {
    let named = match op {
        LinkOp::Change { name, .. } | LinkOp::SetUp { name } | LinkOp::SetDown { name } | LinkOp::Delete { name } => {
            Some(name.to_string())
        }
        _ => None,
    };
    let op = Box::new(op.clone());
    match error {
        Error::NetlinkError(message) => match (errno(&message), named) {
            (Errno::EPERM, _) => LinkError::NotPermitted { op },
            (Errno::ENODEV, Some(missing)) => LinkError::Gone { op, missing },
            (errno, _) => LinkError::Refused { op, errno },
        },
        other => LinkError::Netlink { op, message: other.to_string() },
    }
}

pub(crate) fn errno(message: &ErrorMessage) -> Errno {
    Errno::from_raw(message.raw_code().saturating_neg())
}
