//! The pipeline: inputs → desired → plan → stage → apply → verify → report, over ports; no adapter is named here.

mod pipeline;
mod port;
mod prepare;
mod report;

pub use pipeline::{Limits, Pipeline, RunError};
pub use port::{ConfigPort, DaemonPort, LinkPort, PortError, Ports, ServicePort, VniState};
pub use prepare::{Inputs, PrepareError, Prepared, prepare, render};
pub use report::{Outcome, Reporter};
