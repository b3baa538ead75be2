//! Changes of our nftables table, as the kernel tells them.

use std::io;
use std::time::Duration;

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Trigger, patience};
use crate::notrack::tells_of_our_table;

/// Room for any datagram.
const LONGEST: usize = 64 * 1024;
/// A storm of events is over before it is listened to again.
const PAUSE: Duration = Duration::from_millis(200);
/// Room for what is told while nobody reads, in bytes; the kernel gives at most net.core.rmem_max.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;

/// Sends a trigger whenever our table changes, by us or by others, until it is cancelled.
///
/// Where the kernel could not keep up with telling us (ENOBUFS), or the socket is lost, it may have changed.
pub async fn watch(triggers: mpsc::UnboundedSender<Trigger>, cancel: CancellationToken) {
    let (mut failures, mut missed) = (0, false);
    loop {
        let wait = match open() {
            Ok(socket) => {
                if failures > 0 {
                    tracing::info!("changes of nftables are heard of again");
                }
                if missed {
                    let _ = triggers.send(Trigger::Notrack);
                }
                failures = 0;
                let error = tokio::select! {
                    () = cancel.cancelled() => return,
                    error = listen(&socket, &triggers) => error,
                };
                tracing::debug!(%error, "changes of nftables were missed");
                PAUSE
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "cannot hear of changes of nftables: they are found at the next check only");
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
