//! What the pipeline needs of the host, in our words.

use std::collections::BTreeMap;
use std::future::Future;

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
    /// What was staged takes its place in one step; notes that a reload is owed.
    fn commit(&self) -> Result<(), PortError>;
    /// Whether a reload is owed, also by an agent that ended meanwhile.
    fn reload_owed(&self) -> bool;
    /// Notes that none is owed any more.
    fn reloaded(&self) -> Result<(), PortError>;
}

/// frr.service.
pub trait ServicePort {
    /// Makes sure that it is there, before anything is changed; tells whether it runs.
    fn running(&self) -> impl Future<Output = Result<bool, PortError>> + Send;
    /// Reloads it and waits for the end.
    fn reload(&self) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// What zebra makes of a VRF's VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VniState {
    /// The VNI that the configuration maps to the VRF.
    pub vni: u32,
    /// Whether the L3 VNI is up.
    pub up: bool,
}

/// FRR's running state.
pub trait DaemonPort {
    /// VRFs with a VNI, by interface name.
    fn vnis(&self) -> impl Future<Output = Result<BTreeMap<String, VniState>, PortError>> + Send;
    /// Gives VRFs, by interface name, their VNIs, ahead of the reload.
    fn map_vnis(&self, vnis: &[(String, u32)]) -> impl Future<Output = Result<(), PortError>> + Send;
    /// Takes VRFs that are not in the new text out of FRR, ahead of the reload that would.
    fn release_vrfs(&self, text: &str) -> impl Future<Output = Result<(), PortError>> + Send;
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
