//! What the site says once per node: the operator file, typed.

mod load;
mod operator;

pub use load::ConfigError;
pub use operator::{OnReloadFailure, OperatorConfig, RefusedVrf, Replacement, VrfConfig};
