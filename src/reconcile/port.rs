//! What the pipeline needs of the host, in our words.

use std::collections::BTreeMap;
use std::future::Future;

use crate::frr::command::Verdict;
use crate::frr::config::{Config, Line};
use crate::link::{LinkOp, ObservedLinks};

/// An adapter's error, for the one who reads the log: it names step, object, cause.
pub type PortError = Box<dyn std::error::Error + Send + Sync>;

/// Kernel links.
pub trait LinkPort {
    /// Reads all links.
    fn observe(&self) -> impl Future<Output = Result<ObservedLinks, PortError>> + Send;
    /// Makes sure that links can be changed, before anything is.
    fn may_write(&self) -> impl Future<Output = Result<(), PortError>> + Send;
    /// Carries out operations in order.
    fn apply(&self, ops: &[LinkOp]) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// frr.conf.
pub trait ConfigPort {
    /// The text as it is; `None` where there is no file.
    fn read(&self) -> Result<Option<String>, PortError>;
    /// Puts a text beside it and has FRR look at it; gives FRR's words to each line that it refuses.
    fn stage(&self, text: &str) -> impl Future<Output = Result<Vec<String>, PortError>> + Send;
    /// Removes what was staged.
    fn discard(&self);
    /// What was staged takes its place in one step.
    fn commit(&self) -> Result<(), PortError>;
    /// Puts a text in its place that has been there before.
    fn restore(&self, text: &str) -> Result<(), PortError>;
    /// The text that FRR was last seen to run as it was meant, also by an agent that ended meanwhile.
    fn last_good(&self) -> Result<Option<String>, PortError>;
    /// Keeps a text as the one to go back to.
    fn keep_good(&self, text: &str) -> Result<(), PortError>;
}

/// frr.service.
pub trait ServicePort {
    /// Makes sure that it is there, before anything is changed; tells whether it runs.
    fn running(&self) -> impl Future<Output = Result<bool, PortError>> + Send;
    /// Reloads it and waits for the end.
    fn reload(&self) -> impl Future<Output = Result<(), PortError>> + Send;
    /// Whether a reload that gave this error may have changed something.
    fn was_tried(&self, error: &PortError) -> bool;
    /// Starts it.
    fn start(&self) -> impl Future<Output = Result<(), PortError>> + Send;
    /// Restarts it: every session of the node is lost.
    fn restart(&self) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// What zebra makes of a VRF's VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VniState {
    /// The VNI that the configuration maps to the VRF.
    pub vni: u32,
    /// Whether the L3 VNI is up.
    pub up: bool,
    /// Whether zebra knows a VXLAN of it.
    pub vxlan: bool,
}

/// FRR's running state.
pub trait DaemonPort {
    /// The configuration that FRR runs.
    fn running(&self) -> impl Future<Output = Result<Config, PortError>> + Send;
    /// A hash of what its daemons print as their configuration.
    fn fingerprint(&self) -> impl Future<Output = Result<u64, PortError>> + Send;
    /// Gives FRR lines that it does not have; one verdict for each.
    fn give(&self, lines: &[Line]) -> impl Future<Output = Result<Vec<Verdict>, PortError>> + Send;
    /// Takes lines out of FRR; what is left is seen in the running configuration.
    fn take(&self, lines: &[Line]) -> impl Future<Output = Result<(), PortError>> + Send;
    /// VRFs with a VNI, by interface name.
    fn vnis(&self) -> impl Future<Output = Result<BTreeMap<String, VniState>, PortError>> + Send;
    /// How many next hops of EVPN zebra has, by VNI: routes in the VNI's VRF go there.
    fn next_hops(&self) -> impl Future<Output = Result<BTreeMap<u32, usize>, PortError>> + Send;
    /// Whether an unnumbered neighbor of the default instance has an address.
    fn addressed(&self, neighbor: &str) -> impl Future<Output = Result<bool, PortError>> + Send;
    /// Whether bgpd is of a version that may forget where it keeps an unnumbered neighbor.
    fn loses_neighbors(&self) -> impl Future<Output = Result<bool, PortError>> + Send;
    /// Removes the stanzas of VRFs whose device is gone and that no reload removes; gives those that are still there,
    /// with the reason.
    fn forget_vrfs(&self, vrfs: &[String]) -> impl Future<Output = Result<BTreeMap<String, String>, PortError>> + Send;
}

/// All of them.
#[derive(Debug)]
pub struct Ports<L, C, S, D> {
    /// Kernel links.
    pub links: L,
    /// frr.conf.
    pub config: C,
    /// frr.service.
    pub service: S,
    /// FRR's running state.
    pub daemons: D,
}
