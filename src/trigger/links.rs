//! Changes of links and addresses, as the kernel tells them: those that concern us.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use nix::net::if_::if_nameindex;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkBuffer, NlasIterator};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Trigger, patience};
use crate::link::OwnedName;
use crate::model::IfName;

/// Room for any datagram.
const LONGEST: usize = 64 * 1024;
/// A storm of events is over before it is listened to again.
const PAUSE: Duration = Duration::from_millis(200);
/// Messages and attributes (linux/rtnetlink.h, linux/if_link.h).
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// Size of `ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Where the interface index stands, in `ifinfomsg` as in `ifaddrmsg`.
const INDEX: std::ops::Range<usize> = 4..8;
/// Messages begin at multiples of this (`NLMSG_ALIGNTO`).
const ALIGN: usize = 4;

/// Sends a trigger whenever a link of ours, the underlay or its IPv4 addresses change, or a VXLAN goes, until it is
/// cancelled.
///
/// Where the kernel could not keep up with telling us (ENOBUFS), or the socket is lost, anything may have changed.
pub async fn watch(
    mut underlay: watch::Receiver<Option<IfName>>,
    triggers: mpsc::UnboundedSender<Trigger>,
    cancel: CancellationToken,
) {
    let (mut failures, mut missed) = (0, false);
    loop {
        let wait = match Listener::open(&mut underlay) {
            Ok(mut listener) => {
                if failures > 0 {
                    tracing::info!("changes of links are heard of again");
                }
                if missed {
                    let _ = triggers.send(Trigger::Links);
                }
                failures = 0;
                let error = tokio::select! {
                    () = cancel.cancelled() => return,
                    error = listener.listen(&mut underlay, &triggers) => error,
                };
                tracing::debug!(%error, "changes of links were missed");
                PAUSE
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "cannot hear of changes of links: they are found at the next check only");
                }
                failures += 1;
                patience(failures)
            }
        };
        missed = true;
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
    fn open(underlay: &mut watch::Receiver<Option<IfName>>) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr];
        let groups = groups.into_iter().fold(0, |bits, group| bits | 1 << (group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        // Listed after the socket is bound: what comes in between is told.
        let interest = Interest::new(underlay.borrow_and_update().clone(), &indexes()?);
        Ok(Self { socket, interest })
    }

    /// Listens until the socket fails.
    async fn listen(
        &mut self,
        underlay: &mut watch::Receiver<Option<IfName>>,
        triggers: &mpsc::UnboundedSender<Trigger>,
    ) -> io::Error {
        let mut datagram = Vec::with_capacity(LONGEST);
        loop {
            datagram.clear();
            tokio::select! {
                result = self.socket.recv(&mut datagram) => match result {
                    Ok(()) => if self.interest.concerned_by(&datagram) {
                        let _ = triggers.send(Trigger::Links);
                    },
                    Err(error) => return error,
                },
                Ok(()) = underlay.changed() => match indexes() {
                    Ok(links) => self.interest = Interest::new(underlay.borrow_and_update().clone(), &links),
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
    underlay: Option<IfName>,
    underlay_index: Option<u32>,
    ours: BTreeSet<u32>,
}

impl Interest {
    fn new(underlay: Option<IfName>, links: &[(u32, String)]) -> Self {
        let mut interest = Self { underlay, underlay_index: None, ours: BTreeSet::new() };
        for (index, name) in links {
            interest.named(*index, name);
        }
        interest
    }

    /// Whether a link of that name concerns us.
    fn named(&mut self, index: u32, name: &str) -> bool {
        if self.underlay.as_ref().is_some_and(|underlay| underlay.as_str() == name) {
            self.underlay_index = Some(index);
            return true;
        }
        let ours = OwnedName::recognise(name).is_some();
        if ours {
            self.ours.insert(index);
        }
        ours
    }

    /// Whether a link that is known concerned us until now.
    fn forget(&mut self, index: u32) -> bool {
        let underlay = self.underlay_index.take_if(|known| *known == index).is_some();
        self.ours.remove(&index) || underlay
    }

    /// Whether one of the messages concerns us.
    fn concerned_by(&mut self, mut datagram: &[u8]) -> bool {
        let mut concerned = false;
        while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
            concerned |= Event::parse(message.message_type(), message.payload()).is_some_and(|event| self.event(event));
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(ALIGN);
            datagram = datagram.get(length..).unwrap_or_default();
        }
        concerned
    }

    fn event(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Link { index, name } => {
                let before = self.forget(index);
                self.named(index, name) || before
            }
            // The VNI may be free now that was in our way.
            Event::Gone { index, name, vxlan } => {
                let before = self.forget(index);
                before || vxlan || OwnedName::recognise(name).is_some()
            }
            Event::Address { index } => self.underlay_index == Some(index),
        }
    }
}

/// As much of a message as we look at.
#[derive(Debug, PartialEq)]
enum Event<'a> {
    Link { index: u32, name: &'a str },
    Gone { index: u32, name: &'a str, vxlan: bool },
    Address { index: u32 },
}

impl<'a> Event<'a> {
    fn parse(message_type: u16, payload: &'a [u8]) -> Option<Self> {
        let index = u32::from_ne_bytes(payload.get(INDEX)?.try_into().ok()?);
        // A bridge tells of its ports in messages of its own: a port that leaves it is still there.
        let of_a_bridge = i32::from(*payload.first()?) == nix::libc::AF_BRIDGE;
        match message_type {
            RTM_NEWADDR | RTM_DELADDR => Some(Self::Address { index }),
            RTM_NEWLINK | RTM_DELLINK => {
                let attributes = payload.get(LINK_HEADER..)?;
                let name = text(attribute(attributes, IFLA_IFNAME)?)?;
                if message_type == RTM_NEWLINK || of_a_bridge {
                    return Some(Self::Link { index, name });
                }
                let kind = attribute(attributes, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
                Some(Self::Gone { index, name, vxlan: kind.and_then(text) == Some("vxlan") })
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
        let links = [(1, "lo"), (2, "dum.underlay"), (3, "vr.a"), (4, "cali1234")]
            .map(|(index, name)| (index, name.to_owned()));
        Interest::new(Some("dum.underlay".parse().unwrap()), &links)
    }

    #[test]
    fn links_of_ours_the_underlay_and_vxlans_that_go_concern_us_and_others_do_not() {
        let mut interest = interest();
        let link = |index, name| Event::Link { index, name };
        assert!(interest.event(link(3, "vr.a")) && interest.event(link(2, "dum.underlay")));
        assert!(!interest.event(link(4, "cali1234")) && !interest.event(link(5, "vr-mine")));
        assert!(interest.event(Event::Address { index: 2 }) && !interest.event(Event::Address { index: 3 }));
        assert!(!interest.event(Event::Gone { index: 4, name: "cali1234", vxlan: false }));
        assert!(!interest.event(link(6, "vxlan.calico")));
        assert!(interest.event(Event::Gone { index: 6, name: "vxlan.calico", vxlan: true }));
        assert!(interest.event(Event::Gone { index: 9, name: "br.a", vxlan: false }), "never seen before");
    }

    #[test]
    fn a_link_that_is_renamed_away_concerns_us_once_more() {
        let mut interest = interest();
        for (index, name) in [(3, "vr.a"), (2, "dum.underlay")] {
            assert!(interest.event(Event::Link { index, name: "other" }), "{name}");
            assert!(!interest.event(Event::Link { index, name: "other" }), "{name}");
        }
        assert!(!interest.event(Event::Address { index: 2 }));
        assert!(interest.event(Event::Link { index: 7, name: "dum.underlay" }), "another one takes its place");
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
        assert!(!interest().concerned_by(&[1; 40]));
    }
}
