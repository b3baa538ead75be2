//! The adapter between links and the kernel, over rtnetlink.

mod apply;
mod observe;
mod socket;

use std::collections::BTreeMap;

use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::LinkMessage;

use super::{LinkError, LinkOp, ObservedLinks};
pub(crate) use apply::errno;
pub(crate) use observe::{ATTEMPTS, dump, visit};
use socket::PartedSocket;

/// A netlink socket of the agent's network namespace.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens the socket; its reader runs as a task of the current tokio runtime.
    ///
    /// # Errors
    /// No socket of family AF_NETLINK can be had.
    pub fn connect() -> Result<Self, LinkError> {
        let (mut connection, handle, _) =
            rtnetlink::new_connection_with_socket::<PartedSocket>().map_err(LinkError::Connect)?;
        // How a dump ended: it may have failed midway.
        connection.set_forward_done(true);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// For what is asked of the kernel beside links.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Reads all links, with their IPv4 addresses: two dumps, whatever their number.
    ///
    /// # Errors
    /// A dump that fails, or that the kernel calls interrupted again and again: part of the links is not the links.
    pub async fn observe(&self) -> Result<ObservedLinks, LinkError> {
        observe::observe(self.handle.clone()).await
    }

    /// The name of each link, and whether it carries packets (RFC 2863): its operational state is up; or unknown with a
    /// carrier, because its driver tells of none, as with dummy links.
    ///
    /// # Errors
    /// As [`Netlink::observe`].
    pub async fn operational(&self) -> Result<Vec<(String, bool)>, LinkError> {
        observe::operational(self.handle.clone()).await
    }

    /// Names of VRFs by their routing table.
    ///
    /// # Errors
    /// As [`Netlink::observe`].
    pub async fn vrfs(&self) -> Result<BTreeMap<u32, String>, LinkError> {
        observe::vrfs(self.handle.clone()).await
    }

    /// Makes sure that the kernel lets us change links, before anything is changed.
    ///
    /// It asks for a change of a link that cannot be there: `rtnetlink_rcv_msg` looks at CAP_NET_ADMIN first (EPERM),
    /// and for the link only then (ENODEV).
    ///
    /// # Errors
    /// CAP_NET_ADMIN is missing.
    pub async fn may_write(&self) -> Result<(), LinkError> {
        let mut message = LinkMessage::default();
        message.header.index = i32::MAX.cast_unsigned();
        match self.handle.link().set(message).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if apply::errno(&error) == Errno::EPERM => {
                Err(LinkError::MayNotWrite)
            }
            _ => Ok(()),
        }
    }

    /// Carries out operations in order, one message each.
    ///
    /// # Errors
    /// The first operation that the kernel refuses; those behind it are not tried.
    pub async fn apply(&self, ops: &[LinkOp]) -> Result<(), LinkError> {
        for op in ops {
            apply::apply(&self.handle, op).await?;
        }
        Ok(())
    }
}
