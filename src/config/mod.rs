//! What the site says once per node: the operator file, typed.

mod health;
mod load;
mod operator;

pub use health::{HealthConfig, HealthConfigError, Pattern, Target};
pub use load::ConfigError;
pub use operator::{BpfConfig, OnReloadFailure, OperatorConfig, RefusedVrf, Replacement, VrfConfig};
