//! The pipeline: inputs → desired → plan → stage → apply → verify → report, over ports; no adapter is named here.

mod configure;
mod error;
mod glance;
mod goal;
mod pipeline;
mod port;
mod prepare;
mod report;
mod rollback;
mod steps;
mod unplug;

pub use error::{Missing, Restored, RunError};
pub use glance::Shown;
pub use goal::frr_lines;
pub use pipeline::{Limits, Pipeline};
pub use port::{ConfigPort, DaemonPort, LinkPort, PortError, Ports, ServicePort, VniState};
pub use prepare::{Inputs, PrepareError, Prepared, prepare, render, verdict};
pub use report::{Outcome, Reporter};
pub use steps::Steps;
