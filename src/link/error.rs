//! What can go wrong between us and the kernel.

use super::LinkOp;

/// A netlink request that failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("open a netlink socket: the seccomp profile must allow AF_NETLINK")]
    Connect(#[source] std::io::Error),
    /// The links cannot be read.
    #[error("list links: {0}")]
    Observe(String),
    /// The links changed under every attempt to list them.
    #[error("list links: they changed during each of {0} attempts")]
    Unstable(usize),
    /// The kernel lets us change no link at all.
    #[error(
        "change links: not permitted: CAP_NET_ADMIN is needed in the network namespace of the node; nothing was changed"
    )]
    MayNotWrite,
    /// A link that an operation needs has gone since the plan was made.
    #[error("{op}: link {missing} is not there any more; the next run plans anew")]
    Gone {
        /// The operation.
        op: Box<LinkOp>,
        /// The link.
        missing: String,
    },
    /// The kernel does not let us.
    #[error("{op}: not permitted: CAP_NET_ADMIN is needed in the network namespace of the node")]
    NotPermitted {
        /// The operation.
        op: Box<LinkOp>,
    },
    /// The kernel refused an operation.
    #[error("{op}: {errno}{}", hint(*.errno))]
    Refused {
        /// The operation.
        op: Box<LinkOp>,
        /// Its answer.
        errno: nix::errno::Errno,
    },
    /// No answer that could be understood.
    #[error("{op}: {message}")]
    Netlink {
        /// The operation.
        op: Box<LinkOp>,
        /// What happened.
        message: String,
    },
}

fn hint(errno: nix::errno::Errno) -> &'static str {
    match errno {
        nix::errno::Errno::EOPNOTSUPP => " (is the kernel module vrf, vxlan, bridge or veth there?)",
        nix::errno::Errno::EEXIST => " (another link has this name, or this VNI on this port)",
        _ => "",
    }
}
