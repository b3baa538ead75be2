//! Changes of links, addresses and tc filters, as the kernel tells them: those that concern us.

use std::collections::BTreeSet;
use std::io;

use nix::net::if_::if_nameindex;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkBuffer, NlasIterator};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Trigger;
use super::source::{LONGEST, Source};
use crate::config::OperatorConfig;
use crate::link::OwnedName;
use crate::model::IfName;

/// Messages and attributes (linux/rtnetlink.h, linux/if_link.h).
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// Size of `ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Where the interface index stands, in `ifinfomsg` as in `ifaddrmsg` and `tcmsg`.
const INDEX: std::ops::Range<usize> = 4..8;
/// Messages begin at multiples of this (`NLMSG_ALIGNTO`).
const ALIGN: usize = 4;

/// Links of the site that concern us, named by the operator file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteLinks {
    /// What the VXLANs run over.
    pub underlay: Option<IfName>,
    /// Those that the eBPF router is attached to.
    pub routed: BTreeSet<IfName>,
}

impl SiteLinks {
    /// Those that the operator file names.
    pub fn new(config: &OperatorConfig) -> Self {
        let routed = if config.bpf.enabled { config.bpf_interfaces.clone() } else { BTreeSet::new() };
        Self { underlay: Some(config.underlay_interface.clone()), routed }
    }

    /// Tells who watches them, where they are others than before.
    pub fn publish(self, known: &watch::Sender<Self>) {
        known.send_if_modified(|known| {
            let modified = *known != self;
            *known = self;
            modified
        });
    }
}

/// Sends a trigger whenever a link of ours or of the site, its filters, or the underlay's IPv4 addresses change, or a VXLAN
/// goes, until it is cancelled.
///
/// Where the kernel could not keep up with telling us (ENOBUFS), or the socket is lost, anything may have changed.
pub async fn watch(
    mut site: watch::Receiver<SiteLinks>,
    triggers: mpsc::UnboundedSender<Trigger>,
    cancel: CancellationToken,
) {
    let mut source = Source::new("links", Trigger::Links);
    loop {
        let wait = match Listener::open(&mut site) {
            Ok(mut listener) => {
                source.opened(&triggers);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    error = listener.listen(&mut site, &triggers) => source.lost(&error),
                }
            }
            Err(error) => source.refused(&error, &triggers),
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A socket that is told of changes.
struct Listener {
    socket: TokioSocket,
    interest: Interest,
}

impl Listener {
    fn open(site: &mut watch::Receiver<SiteLinks>) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Tc];
        let groups = groups.into_iter().fold(0, |bits, group| bits | 1 << (group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        // Listed after the socket is bound: what comes in between is told.
        let interest = Interest::new(site.borrow_and_update().clone(), &indexes()?);
        Ok(Self { socket, interest })
    }

    /// Listens until the socket fails.
    async fn listen(
        &mut self,
        site: &mut watch::Receiver<SiteLinks>,
        triggers: &mpsc::UnboundedSender<Trigger>,
    ) -> io::Error {
        let mut datagram = Vec::with_capacity(LONGEST);
        loop {
            datagram.clear();
            tokio::select! {
                biased;
                Ok(()) = site.changed() => match indexes() {
                    Ok(links) => self.interest = Interest::new(site.borrow_and_update().clone(), &links),
                    Err(error) => return error,
                },
                result = self.socket.recv(&mut datagram) => match result {
                    Ok(()) => for trigger in self.interest.concerned_by(&datagram) {
                        let _ = triggers.send(trigger);
                    },
                    Err(error) => return error,
                },
            }
        }
    }
}

/// All links, by index.
fn indexes() -> io::Result<Vec<(u32, String)>> {
    let names = if_nameindex()?;
    Ok(names.iter().map(|link| (link.index(), link.name().to_string_lossy().into_owned())).collect())
}

/// What concerns us. Links are remembered by index: one that is renamed away is told by its new name.
#[derive(Debug)]
struct Interest {
    site: SiteLinks,
    underlay_index: Option<u32>,
    /// Links of ours, and those of the site that are routed.
    routed: BTreeSet<u32>,
}

impl Interest {
    fn new(site: SiteLinks, links: &[(u32, String)]) -> Self {
        let mut interest = Self { site, underlay_index: None, routed: BTreeSet::new() };
        for (index, name) in links {
            interest.named(*index, name);
        }
        interest
    }

    /// Whether a link of that name concerns us.
    fn named(&mut self, index: u32, name: &str) -> bool {
        if self.site.underlay.as_ref().is_some_and(|underlay| underlay.as_str() == name) {
            self.underlay_index = Some(index);
        }
        let routed =
            OwnedName::recognise(name).is_some() || self.site.routed.iter().any(|routed| routed.as_str() == name);
        if routed {
            self.routed.insert(index);
        }
        routed || self.underlay_index == Some(index)
    }

    /// Whether a link that is known concerned us until now.
    fn forget(&mut self, index: u32) -> bool {
        let underlay = self.underlay_index.take_if(|known| *known == index).is_some();
        self.routed.remove(&index) || underlay
    }

    /// What the messages make of it, if any of them concerns us.
    fn concerned_by(&mut self, mut datagram: &[u8]) -> impl Iterator<Item = Trigger> + use<> {
        let (mut links, mut filters) = (None, None);
        while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
            let event = Event::parse(message.message_type(), message.payload());
            if let Some(event) = event {
                let (told, trigger) = match event {
                    Event::Filter { .. } => (&mut filters, Trigger::Filters),
                    _ => (&mut links, Trigger::Links),
                };
                if self.event(event) {
                    *told = Some(trigger);
                }
            }
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(ALIGN);
            datagram = datagram.get(length..).unwrap_or_default();
        }
        links.into_iter().chain(filters)
    }

    fn event(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Link { index, name, above } => {
                let before = self.forget(index);
                // A routed link may be a port of this bridge, and look up its routes where that does.
                self.named(index, name) || before || (above && !self.site.routed.is_empty())
            }
            // The VNI may be free now that was in our way.
            Event::Gone { index, name, vxlan } => {
                let before = self.forget(index);
                before || vxlan || OwnedName::recognise(name).is_some()
            }
            Event::Address { index } => self.underlay_index == Some(index),
            Event::Filter { index } => self.routed.contains(&index),
        }
    }
}

/// As much of a message as we look at.
#[derive(Debug, PartialEq)]
enum Event<'a> {
    /// `above`: it is a bridge or VRF.
    Link {
        index: u32,
        name: &'a str,
        above: bool,
    },
    Gone {
        index: u32,
        name: &'a str,
        vxlan: bool,
    },
    Address {
        index: u32,
    },
    Filter {
        index: u32,
    },
}

impl<'a> Event<'a> {
    fn parse(message_type: u16, payload: &'a [u8]) -> Option<Self> {
        let index = u32::from_ne_bytes(payload.get(INDEX)?.try_into().ok()?);
        // A bridge tells of its ports in messages of its own: a port that leaves it is still there.
        let of_a_bridge = i32::from(*payload.first()?) == nix::libc::AF_BRIDGE;
        match message_type {
            RTM_NEWADDR | RTM_DELADDR => Some(Self::Address { index }),
            RTM_NEWQDISC | RTM_DELQDISC | RTM_NEWTFILTER | RTM_DELTFILTER => Some(Self::Filter { index }),
            RTM_NEWLINK | RTM_DELLINK => {
                let attributes = payload.get(LINK_HEADER..)?;
                let name = text(attribute(attributes, IFLA_IFNAME)?)?;
                let kind = attribute(attributes, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
                let kind = kind.and_then(text);
                if message_type == RTM_NEWLINK || of_a_bridge {
                    return Some(Self::Link { index, name, above: matches!(kind, Some("bridge" | "vrf")) });
                }
                Some(Self::Gone { index, name, vxlan: kind == Some("vxlan") })
            }
            _ => None,
        }
    }
}

fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).map_while(Result::ok).find(|attribute| attribute.kind() == kind)?;
    let (start, length) = (4, found.value_length());
    found.into_inner().get(start..start + length)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().map(|text| text.trim_end_matches('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest() -> Interest {
        let links = [(1, "lo"), (2, "dum.underlay"), (3, "vr.a"), (4, "cali1234"), (8, "vx.site"), (10, "mgmt_def")]
            .map(|(index, name)| (index, name.to_owned()));
        let routed = ["mgmt_def", "later"].map(|name| name.parse().unwrap()).into();
        Interest::new(SiteLinks { underlay: Some("dum.underlay".parse().unwrap()), routed }, &links)
    }

    #[test]
    fn links_of_ours_the_underlay_and_vxlans_that_go_concern_us_and_others_do_not() {
        let mut interest = interest();
        let link = |index, name| Event::Link { index, name, above: false };
        assert!(interest.event(link(3, "vr.a")) && interest.event(link(2, "dum.underlay")));
        assert!(!interest.event(link(4, "cali1234")) && !interest.event(link(5, "vr-mine")));
        assert!(interest.event(Event::Address { index: 2 }) && !interest.event(Event::Address { index: 3 }));
        assert!(!interest.event(Event::Gone { index: 4, name: "cali1234", vxlan: false }));
        assert!(!interest.event(link(6, "vxlan.calico")));
        assert!(interest.event(Event::Gone { index: 6, name: "vxlan.calico", vxlan: true }));
        assert!(interest.event(Event::Gone { index: 9, name: "br.a", vxlan: false }), "never seen before");
    }

    #[test]
    fn filters_of_links_of_ours_and_routed_ones_of_the_site_concern_us() {
        let mut interest = interest();
        let concerned = |interest: &mut Interest, index| interest.event(Event::Filter { index });
        assert!(concerned(&mut interest, 3) && concerned(&mut interest, 10));
        assert!(!concerned(&mut interest, 2) && !concerned(&mut interest, 4));
        assert!(
            interest.event(Event::Link { index: 10, name: "mgmt_def", above: false }),
            "another master, another VRF"
        );
        assert!(interest.event(Event::Link { index: 11, name: "later", above: false }), "it appears");
        assert!(concerned(&mut interest, 11));
        assert!(interest.event(Event::Link { index: 20, name: "docker0", above: true }), "it may be above one");
        interest.site.routed.clear();
        assert!(!interest.event(Event::Link { index: 20, name: "docker0", above: true }));
    }

    #[test]
    fn a_link_that_is_renamed_away_concerns_us_once_more() {
        let mut interest = interest();
        for (index, name) in [(3, "vr.a"), (2, "dum.underlay")] {
            assert!(interest.event(Event::Link { index, name: "other", above: false }), "{name}");
            assert!(!interest.event(Event::Link { index, name: "other", above: false }), "{name}");
        }
        assert!(!interest.event(Event::Address { index: 2 }));
        assert!(
            interest.event(Event::Link { index: 7, name: "dum.underlay", above: false }),
            "another one takes its place"
        );
        assert!(interest.event(Event::Address { index: 7 }));
    }

    #[test]
    fn a_message_that_breaks_off_is_no_event() {
        let message = [&[0_u8; 4][..], &3_u32.to_ne_bytes(), &[0; 8], &[9, 0, 3, 0], b"vr.a\0", &[0; 3]].concat();
        let parsed = Event::parse(RTM_DELLINK, &message);
        assert_eq!(parsed, Some(Event::Gone { index: 3, name: "vr.a", vxlan: false }));
        for length in 0..24 {
            assert_eq!(Event::parse(RTM_DELLINK, &message[..length]), None, "{length}");
        }
        assert_eq!(interest().concerned_by(&[1; 40]).count(), 0);
    }
}
