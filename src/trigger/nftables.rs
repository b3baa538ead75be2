//! Changes of our nftables table, as the kernel tells them.

use std::io;

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Trigger;
use super::source::{LONGEST, Source};
use crate::notrack::tells_of_our_table;

/// Room for what is told while nobody reads, in bytes; the kernel gives at most net.core.rmem_max.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;

/// Sends a trigger whenever our table changes, by us or by others, until it is cancelled.
///
/// Where the kernel could not keep up with telling us (ENOBUFS), or the socket is lost, it may have changed.
pub async fn watch(triggers: mpsc::UnboundedSender<Trigger>, cancel: CancellationToken) {
    let mut source = Source::new("nftables", Trigger::Notrack);
    loop {
        let wait = match open() {
            Ok(socket) => {
                source.opened(&triggers);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    error = listen(&socket, &triggers) => source.lost(&error),
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

fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    // kube-proxy commits thousands of rules at once.
    socket.socket_mut().set_rx_buf_sz(RECEIVE_BUFFER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 1 << (GROUP - 1)))?;
    Ok(socket)
}

/// Listens until the socket fails.
async fn listen(socket: &TokioSocket, triggers: &mpsc::UnboundedSender<Trigger>) -> io::Error {
    let mut datagram = Vec::with_capacity(LONGEST);
    loop {
        datagram.clear();
        match socket.recv(&mut datagram).await {
            Ok(()) if tells_of_our_table(&datagram) => {
                let _ = triggers.send(Trigger::Notrack);
            }
            Ok(()) => {}
            Err(error) => return error,
        }
    }
}
