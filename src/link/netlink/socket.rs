//! A socket that gives way between the parts of a dump.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};
use tokio::task::coop::has_budget_remaining;

/// Flags of a request for a dump (linux/netlink.h).
pub(super) const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// Of a datagram, in bytes: more is a part of a dump, of which the kernel fills up to 32 KiB (`netlink_dump` of its
/// net/netlink/af_netlink.c). An acknowledgement has some 100.
const PART: usize = 4096;

/// The kernel makes the next part of a dump as one is read, so that a reader that goes on for as long as there is something has all of it
/// in memory before anyone can take a message: 2 MB for the links of 30 VRFs. This one gives way after each part.
///
/// Until a dump is over nothing is sent: the kernel refuses a second one of the same socket (EBUSY, `__netlink_dump_start`), and calls
/// one interrupted during which links change.
pub(super) struct PartedSocket {
    socket: TokioSocket,
    /// A dump was asked for, and nothing was read since. The kernel has the first part ready as the request is sent.
    asked: Cell<bool>,
    /// Answers may be left to read.
    underway: Cell<bool>,
    /// What was read last is a part of a dump that nobody could take yet.
    untaken: Cell<bool>,
}

impl PartedSocket {
    /// Reads by `read`, unless it is the others' turn.
    fn poll_part<T>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&TokioSocket, &mut Context<'_>) -> Poll<io::Result<(usize, T)>>,
    ) -> Poll<io::Result<T>> {
        if self.untaken.replace(false) {
            // It waits, and has this task woken when the others had their turn.
            ready!(pin!(tokio::task::yield_now()).poll(cx));
        }
        let Poll::Ready(answer) = read(&self.socket, cx) else {
            // Without budget tokio has it wait whatever there is to read.
            if has_budget_remaining() {
                self.underway.set(self.asked.get());
            }
            return Poll::Pending;
        };
        self.asked.set(false);
        let (size, answer) = answer?;
        if size > PART {
            self.untaken.set(true);
            self.underway.set(true);
        }
        Poll::Ready(Ok(answer))
    }

    /// Sends by `send`, unless a dump goes on: the task that reads its end sends afterwards.
    fn poll_after_dump(
        &self,
        request: &[u8],
        send: impl FnOnce() -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.underway.get() {
            return Poll::Pending;
        }
        let sent = ready!(send())?;
        if asks_for_dump(request) {
            self.asked.set(true);
            self.underway.set(true);
        }
        Poll::Ready(Ok(sent))
    }
}

/// By type and flags of the header (`struct nlmsghdr` of linux/netlink.h); of each family's four types, the third asks
/// (linux/rtnetlink.h).
fn asks_for_dump(request: &[u8]) -> bool {
    let number = |at: usize| request.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    number(4).is_some_and(|kind| kind % 4 == 2) && number(6).is_some_and(|flags| flags & DUMP == DUMP)
}

/// What a buffer takes while something is read into it, in bytes.
fn sized<T, B: BufMut>(buf: &mut B, read: impl FnOnce(&mut B) -> Poll<io::Result<T>>) -> Poll<io::Result<(usize, T)>> {
    let room = buf.remaining_mut();
    let answer = ready!(read(buf))?;
    Poll::Ready(Ok((room - buf.remaining_mut(), answer)))
}

impl AsyncSocket for PartedSocket {
    fn socket_ref(&self) -> &Socket {
        self.socket.socket_ref()
    }

    fn socket_mut(&mut self) -> &mut Socket {
        self.socket.socket_mut()
    }

    fn new(protocol: isize) -> io::Result<Self> {
        let [asked, underway, untaken] = Default::default();
        Ok(Self { socket: TokioSocket::new(protocol)?, asked, underway, untaken })
    }

    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_after_dump(buf, || self.socket.poll_send(cx, buf))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], addr: &SocketAddr) -> Poll<io::Result<usize>> {
        self.poll_after_dump(buf, || self.socket.poll_send_to(cx, buf, addr))
    }

    fn poll_recv<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<()>> {
        self.poll_part(cx, |socket, cx| sized(buf, |buf| socket.poll_recv(cx, buf)))
    }

    fn poll_recv_from<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<SocketAddr>> {
        self.poll_part(cx, |socket, cx| sized(buf, |buf| socket.poll_recv_from(cx, buf)))
    }

    fn poll_recv_from_full(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        self.poll_part(cx, |socket, cx| {
            let (data, from) = ready!(socket.poll_recv_from_full(cx))?;
            Poll::Ready(Ok((data.len(), (data, from))))
        })
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_ROOT, NetlinkMessage};
    use rtnetlink::packet_route::RouteNetlinkMessage::{self, DelLink, GetLink, GetRoute, NewLink, SetLink};

    use super::*;

    #[test]
    fn a_dump_is_told_from_other_requests() {
        let asks = |message: RouteNetlinkMessage, flags: u16| {
            let mut message = NetlinkMessage::from(message);
            message.header.flags = flags;
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            asks_for_dump(&bytes)
        };
        assert!(asks(GetLink(Default::default()), DUMP));
        assert!(asks(GetRoute(Default::default()), DUMP | NLM_F_ACK));
        assert!(!asks(GetLink(Default::default()), NLM_F_REQUEST | NLM_F_ACK), "one link");
        assert!(!asks(GetLink(Default::default()), NLM_F_REQUEST | NLM_F_ROOT), "one of the two flags");
        // NLM_F_EXCL and NLM_F_REPLACE have the numbers of a dump's flags.
        for changes in [NewLink(Default::default()), SetLink(Default::default()), DelLink(Default::default())] {
            assert!(!asks(changes, DUMP | NLM_F_CREATE | NLM_F_EXCL));
        }
        assert!(!asks_for_dump(&[]) && !asks_for_dump(&[20, 0, 0, 0, 18, 0, 1]));
    }
}
