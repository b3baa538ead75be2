//! What the site says once per node: the operator file, typed.

mod load;
mod operator;

pub use load::ConfigError;
pub use operator::{BpfConfig, OnReloadFailure, OperatorConfig, RefusedVrf, Replacement, VrfConfig};
