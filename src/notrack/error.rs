//! What can go wrong between us and nf_tables.

use std::io;

use nix::errno::Errno;

/// A request to nf_tables that failed. Nothing was changed by it.
#[derive(Debug, thiserror::Error)]
pub enum NotrackError {
    /// No socket.
    #[error("open a netfilter socket: the seccomp profile must allow AF_NETLINK")]
    Connect(#[source] io::Error),
    /// The kernel cannot do it.
    #[error("{step}: the kernel of the node has no nf_tables: load it with `modprobe nf_tables` on the node")]
    NoNfTables {
        /// What was tried.
        step: &'static str,
    },
    /// The kernel does not let us.
    #[error("{step}: not permitted: CAP_NET_ADMIN is needed in the network namespace of the node")]
    NotPermitted {
        /// What was tried.
        step: &'static str,
    },
    /// A process has made a table of our name its own (flag owner).
    #[error("{step}: table inet network-operator is owned by another process: it must end, or remove the table")]
    Owned {
        /// What was tried.
        step: &'static str,
    },
    /// The kernel refused a request.
    #[error("{step}: {errno}{}", hint(*.errno))]
    Refused {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        errno: Errno,
    },
    /// The socket failed.
    #[error("{step}: netfilter socket")]
    Socket {
        /// What was tried.
        step: &'static str,
        /// How.
        #[source]
        error: io::Error,
    },
    /// An answer that cannot be understood.
    #[error("{step}: the kernel's answer cannot be understood")]
    Answer {
        /// What was tried.
        step: &'static str,
    },
    /// The ruleset changed under every attempt to read our part of it.
    #[error("read nftables: the ruleset changed during each of {0} attempts")]
    Unstable(usize),
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        // `nft_expr_type_get` asks for a module, and says so where none comes.
        Errno::ENOENT => " (is the kernel module nft_ct there?)",
        // `nft_supported_family`.
        Errno::EOPNOTSUPP => " (the kernel of the node needs CONFIG_NF_TABLES_INET)",
        _ => "",
    }
}
