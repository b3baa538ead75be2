//! Reads links: kernel attributes in, our types out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures::{Stream, StreamExt};
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_core::{DoneMessage, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVrf, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::apply::errno;
use super::socket::DUMP;
use crate::link::{AddrGenMode, BridgePort, Kind, LinkError, MacAddr, ObservedLink, ObservedLinks};

/// How often a dump that the kernel calls interrupted is begun anew.
pub(crate) const ATTEMPTS: usize = 10;
/// The links changed while they were listed (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;

pub(super) async fn observe(handle: Handle) -> Result<ObservedLinks, LinkError> {
    for _ in 0..ATTEMPTS {
        // Addresses first: each link takes its own as it is told. What comes in between raises an event, and that another look.
        let mut ask = AddressMessage::default();
        ask.header.family = AddressFamily::Inet;
        let mut ipv4: BTreeMap<u32, Vec<Ipv4Addr>> = BTreeMap::new();
        let addresses = visit(handle.clone(), RouteNetlinkMessage::GetAddress(ask), |message| {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && let Some(address) = local(&message)
            {
                ipv4.entry(message.header.index).or_default().push(address);
            }
        });
        if !addresses.await.map_err(LinkError::Observe)? {
            continue;
        }
        // Each is made one of ours at once: as the kernel tells of them they are several times as large.
        let mut found = Vec::new();
        let links = visit(handle.clone(), links_of(None), |message| {
            if let RouteNetlinkMessage::NewLink(message) = message {
                found.extend(link(message, &mut ipv4));
            }
        });
        if links.await.map_err(LinkError::Observe)? {
            return Ok(ObservedLinks::new(found));
        }
    }
    Err(LinkError::Unstable(ATTEMPTS))
}

/// Asks for links of one kind or all, without their counters (RTEXT_FILTER_SKIP_STATS): they are half of what the kernel tells of one.
fn links_of(kind: Option<InfoKind>) -> RouteNetlinkMessage {
    let mut ask = LinkMessage::default();
    ask.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    ask.attributes.extend(kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
    RouteNetlinkMessage::GetLink(ask)
}

/// Names of VRFs by their routing table. The kernel lists no other links (`link_kind_filtered` of its net/core/rtnetlink.c).
pub(super) async fn vrfs(handle: Handle) -> Result<BTreeMap<u32, String>, LinkError> {
    for _ in 0..ATTEMPTS {
        let mut found = BTreeMap::new();
        let whole = visit(handle.clone(), links_of(Some(InfoKind::Vrf)), |message| {
            if let RouteNetlinkMessage::NewLink(message) = message
                && let Some(ObservedLink { name, kind: Kind::Vrf { table }, .. }) = link(message, &mut BTreeMap::new())
            {
                found.insert(table, name);
            }
        });
        if whole.await.map_err(LinkError::Observe)? {
            return Ok(found);
        }
    }
    Err(LinkError::Unstable(ATTEMPTS))
}

pub(super) async fn operational(handle: Handle) -> Result<Vec<(String, bool)>, LinkError> {
    for _ in 0..ATTEMPTS {
        let mut found = Vec::new();
        let whole = visit(handle.clone(), links_of(None), |message| found.extend(carries(message))).await;
        if whole.map_err(LinkError::Observe)? {
            return Ok(found);
        }
    }
    Err(LinkError::Unstable(ATTEMPTS))
}

fn carries(message: RouteNetlinkMessage) -> Option<(String, bool)> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let carrier = message.header.flags.contains(LinkFlags::LowerUp);
    let (mut name, mut up) = (None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = Some(found),
            LinkAttribute::OperState(state) => up = state == State::Up || (state == State::Unknown && carrier),
            _ => {}
        }
    }
    Some((name?, up))
}

/// All answers to a dump; `None` where it was interrupted.
pub(crate) async fn dump(handle: Handle, ask: RouteNetlinkMessage) -> Result<Option<Vec<RouteNetlinkMessage>>, String> {
    let mut messages = Vec::new();
    let whole = visit(handle, ask, |message| messages.push(message)).await?;
    Ok(whole.then_some(messages))
}

/// Looks at the answers to a dump one by one; gives whether it was not interrupted.
///
/// # Errors
/// The kernel refused it, at once or midway; or the socket was closed before its end.
pub(crate) async fn visit(
    mut handle: Handle,
    ask: RouteNetlinkMessage,
    look: impl FnMut(RouteNetlinkMessage),
) -> Result<bool, String> {
    let mut request = NetlinkMessage::from(ask);
    request.header.flags = DUMP;
    read(handle.request(request).map_err(|error| error.to_string())?, look).await
}

/// A dump ends with NLMSG_DONE, which says if it went wrong midway, or was interrupted (`netlink_dump_done` of net/netlink/af_netlink.c).
async fn read(
    mut answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin,
    mut look: impl FnMut(RouteNetlinkMessage),
) -> Result<bool, String> {
    let mut whole = true;
    while let Some(answer) = answers.next().await {
        whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
        match answer.payload {
            NetlinkPayload::InnerMessage(message) => look(message),
            NetlinkPayload::Done(DoneMessage { code: 0, .. }) => return Ok(whole),
            NetlinkPayload::Done(end) => return Err(Errno::from_raw(end.code.saturating_neg()).to_string()),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(errno(&error).to_string()),
            _ => {}
        }
    }
    Err("the netlink socket was closed before all of them were told".to_owned())
}

fn local(message: &AddressMessage) -> Option<Ipv4Addr> {
    // IFA_ADDRESS is the far end on point-to-point links; IFA_LOCAL is ours.
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}

fn link(message: LinkMessage, ipv4: &mut BTreeMap<u32, Vec<Ipv4Addr>>) -> Option<ObservedLink> {
    let index = message.header.index;
    let mut link = ObservedLink {
        index,
        name: String::new(),
        alias: None,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        addr_gen_mode: None,
        kind: Kind::Other(String::new()),
        port: None,
        ipv4: ipv4.remove(&index).unwrap_or_default(),
    };
    let (mut infos, mut lower) = (Vec::new(), None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(master).filter(|index| *index != 0),
            LinkAttribute::Link(index) => lower = Some(index),
            LinkAttribute::AfSpecUnspec(families) => link.addr_gen_mode = addr_gen_mode(&families),
            LinkAttribute::LinkInfo(found) => infos = found,
            _ => {}
        }
    }
    link.kind = kind(&infos, lower);
    link.port = infos.iter().find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(port)) => Some(bridge_port(port)),
        _ => None,
    });
    (!link.name.is_empty()).then_some(link)
}

fn addr_gen_mode(families: &[AfSpecUnspec]) -> Option<AddrGenMode> {
    let inet6 = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(attributes) => Some(attributes),
        _ => None,
    })?;
    inet6.iter().find_map(|attribute| match attribute {
        AfSpecInet6::AddrGenMode(In6AddrGenMode::Eui64) => Some(AddrGenMode::Eui64),
        AfSpecInet6::AddrGenMode(In6AddrGenMode::None) => Some(AddrGenMode::None),
        AfSpecInet6::AddrGenMode(_) => Some(AddrGenMode::Other),
        _ => None,
    })
}

fn kind(infos: &[LinkInfo], lower: Option<u32>) -> Kind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    match (kind, data) {
        (Some(InfoKind::Vrf), Some(InfoData::Vrf(vrf))) => Kind::Vrf { table: table(vrf) },
        (Some(InfoKind::Bridge), _) => Kind::Bridge,
        (Some(InfoKind::Vxlan), Some(InfoData::Vxlan(vxlan))) => vxlan_kind(vxlan),
        (Some(InfoKind::Veth), _) => Kind::Veth { peer: lower.filter(|index| *index != 0) },
        (Some(other), _) => Kind::Other(other.to_string()),
        (None, _) => Kind::Other(String::new()),
    }
}

fn table(vrf: &[InfoVrf]) -> u32 {
    let table = vrf.iter().find_map(|info| match info {
        InfoVrf::TableId(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or_default()
}

fn vxlan_kind(infos: &[InfoVxlan]) -> Kind {
    let (mut vni, mut local, mut lower, mut port, mut learning) = (0, None, None, 0, true);
    for info in infos {
        match info {
            InfoVxlan::Id(id) => vni = *id,
            InfoVxlan::Local(address) => local = Some(*address),
            InfoVxlan::Link(index) => lower = Some(*index),
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::Learning(on) => learning = *on,
            _ => {}
        }
    }
    Kind::Vxlan { vni, local, lower, port, learning }
}

fn bridge_port(infos: &[InfoBridgePort]) -> BridgePort {
    let mut port = BridgePort { learning: true, hairpin: false, neigh_suppress: false };
    for info in infos {
        match info {
            InfoBridgePort::Learning(on) => port.learning = *on,
            InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
            InfoBridgePort::NeighSupress(on) => port.neigh_suppress = *on,
            _ => {}
        }
    }
    port
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::super::Netlink;
    use super::*;

    #[tokio::test]
    async fn a_dump_that_the_kernel_refuses_is_no_empty_list() {
        let netlink = Netlink::connect().unwrap();
        let mut ask = LinkMessage::default();
        ask.attributes.push(LinkAttribute::IfNetnsId(i32::MAX));
        let refused = dump(netlink.handle().clone(), RouteNetlinkMessage::GetLink(ask)).await;
        assert!(refused.as_ref().is_err_and(|said| said.contains("EINVAL")), "{refused:?}");
        dump(netlink.handle().clone(), links_of(None)).await.unwrap();
    }

    #[tokio::test]
    async fn only_a_dump_that_ends_well_is_a_list() {
        let told = async |answers: &[(NetlinkPayload<RouteNetlinkMessage>, u16)]| {
            let messages = answers.iter().map(|(payload, flags)| {
                let mut message = NetlinkMessage::new(Default::default(), payload.clone());
                message.header.flags = *flags;
                message
            });
            let mut count = 0;
            read(stream::iter(messages), |_| count += 1).await.map(|whole| (whole, count))
        };
        let link = |flags| (NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(LinkMessage::default())), flags);
        let end = |code: i32, flags| {
            let mut done = DoneMessage::default();
            done.code = code;
            (NetlinkPayload::Done(done), flags)
        };
        assert_eq!(told(&[end(0, 0)]).await, Ok((true, 0)));
        assert_eq!(told(&[link(0), link(0), end(0, 0)]).await, Ok((true, 2)));
        assert_eq!(told(&[link(0), link(NLM_F_DUMP_INTR), link(0), end(0, 0)]).await, Ok((false, 3)));
        assert_eq!(told(&[link(0), end(0, NLM_F_DUMP_INTR)]).await, Ok((false, 1)));
        let midway = told(&[link(0), end(-(Errno::EMSGSIZE as i32), 0)]).await;
        assert!(midway.as_ref().is_err_and(|said| said.contains("EMSGSIZE")), "{midway:?}");
        let cut = told(&[link(0)]).await;
        assert!(cut.as_ref().is_err_and(|said| said.contains("closed before")), "{cut:?}");
    }
}
