//! What the agent is told on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What `run` is told.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The operator file.
    pub operator_file: PathBuf,
    /// frr.conf.
    pub frr_config: PathBuf,
    /// Name of the node.
    pub node_name: String,
    /// Objects from files instead of the API server.
    pub manifests: Option<PathBuf>,
    /// Section templates that override the built-in ones.
    pub templates: Option<PathBuf>,
    /// Window of the debounce.
    pub debounce: Duration,
    /// How long a reload of FRR may take.
    pub reload_limit: Duration,
    /// How often to look for what no event tells; zero for never.
    pub check_interval: Duration,
    /// How often in a minute the node may be put back.
    pub repairs_per_minute: u32,
    /// How long to wait for a first answer on the objects before the last accepted ones are applied.
    pub input_limit: Duration,
    /// Folder of what outlives a restart.
    pub state_dir: PathBuf,
    /// Namespace of the Lease by which one agent is elected to sum up what all say.
    pub namespace: String,
    /// The health file, where somebody has named it.
    pub health_file: Option<PathBuf>,
    /// Where probes are answered; nothing for nowhere.
    pub listen: Option<SocketAddr>,
}
