//! One step on the way from the router that is seen to the one that is wanted. Data, to be printed and tested.

use std::fmt;

use serde::Serialize;

use crate::model::IfName;
use crate::notrack::Notrack;

/// One message to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum RouterOp {
    /// Loads the program of this build, and pins it and its maps.
    Load,
    /// Adds the qdisc that has filters for ingress.
    AddQdisc {
        /// Which link.
        link: IfName,
    },
    /// Tells the program how to look up routes for packets of a link.
    SetPort {
        /// Which link.
        link: IfName,
        /// The link whose VRF counts.
        looks_from: IfName,
        /// Whether that one is in a VRF.
        in_vrf: bool,
        /// Whether the qdisc is ours to remove.
        own_qdisc: bool,
    },
    /// Adds the filter.
    Attach {
        /// Which link.
        link: IfName,
    },
    /// Gives a filter the program of this build, in one step.
    Replace {
        /// Which link.
        link: IfName,
        /// `pref` of tc(8).
        priority: u16,
        /// Its handle within that.
        handle: u32,
    },
    /// Removes a filter of ours.
    Detach {
        /// Which link.
        link: IfName,
        /// `pref` of tc(8).
        priority: u16,
        /// Its handle within that.
        handle: u32,
    },
    /// Removes the qdisc that we added, unless somebody else's filter came to be in it.
    RemoveQdisc {
        /// Which link.
        link: IfName,
    },
    /// Has the program forget an interface.
    ForgetPort {
        /// Its index: it may be gone.
        index: u32,
    },
    /// Writes our nftables table.
    WriteNotrack {
        /// What it says.
        #[serde(flatten)]
        notrack: Notrack,
    },
    /// Removes our nftables table.
    RemoveNotrack,
    /// Removes the pins of other builds' programs.
    UnpinOlder,
    /// Removes all pins.
    Unpin,
}

/// Something that keeps the router from being as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouterProblem {
    /// What is the matter.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RouterPlan {
    /// Steps, in order.
    pub ops: Vec<RouterOp>,
    /// What cannot be done.
    pub problems: Vec<RouterProblem>,
}

impl RouterOp {
    /// All that [`RouterOp::netlink`] gives.
    pub const NETLINK: [&str; 7] =
        ["add-qdisc", "attach", "replace", "detach", "remove-qdisc", "write-notrack", "remove-notrack"];

    /// What is asked for over netlink, in the word that `plan --output json` has for it; nothing where it is a matter of pins and maps.
    pub fn netlink(&self) -> Option<&'static str> {
        match self {
            Self::AddQdisc { .. } => Some("add-qdisc"),
            Self::Attach { .. } => Some("attach"),
            Self::Replace { .. } => Some("replace"),
            Self::Detach { .. } => Some("detach"),
            Self::RemoveQdisc { .. } => Some("remove-qdisc"),
            Self::WriteNotrack { .. } => Some("write-notrack"),
            Self::RemoveNotrack => Some("remove-notrack"),
            Self::Load | Self::SetPort { .. } | Self::ForgetPort { .. } | Self::UnpinOlder | Self::Unpin => None,
        }
    }

    /// The link that it is about.
    pub fn link(&self) -> Option<&IfName> {
        match self {
            Self::AddQdisc { link }
            | Self::SetPort { link, .. }
            | Self::Attach { link }
            | Self::Replace { link, .. }
            | Self::Detach { link, .. }
            | Self::RemoveQdisc { link } => Some(link),
            Self::Load
            | Self::ForgetPort { .. }
            | Self::WriteNotrack { .. }
            | Self::RemoveNotrack
            | Self::UnpinOlder
            | Self::Unpin => None,
        }
    }
}

impl fmt::Display for RouterOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => f.write_str("load the eBPF router"),
            Self::AddQdisc { link } => write!(f, "add qdisc clsact to {link}"),
            Self::SetPort { link, looks_from, in_vrf, own_qdisc: _ } => {
                write!(f, "route from {link} as from {looks_from}{}", if *in_vrf { "" } else { " by the rules" })
            }
            Self::Attach { link } => write!(f, "attach the eBPF router to {link}"),
            Self::Replace { link, .. } => write!(f, "replace the eBPF router of {link}"),
            Self::Detach { link, priority, handle } => {
                write!(f, "detach the eBPF router from {link} (pref {priority} handle {handle:#x})")
            }
            Self::RemoveQdisc { link } => write!(f, "remove qdisc clsact from {link}"),
            Self::ForgetPort { index } => write!(f, "forget the port with index {index}"),
            Self::WriteNotrack { notrack } => write!(f, "do not track {notrack}"),
            Self::RemoveNotrack => f.write_str("remove the nftables table"),
            Self::UnpinOlder => f.write_str("unpin the eBPF routers of other builds"),
            Self::Unpin => f.write_str("unpin the eBPF router"),
        }
    }
}

impl fmt::Display for RouterProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.cure)
    }
}
