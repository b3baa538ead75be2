//! What the site says once per node: the operator file, typed.

mod operator;

pub use operator::{OperatorConfig, RefusedVrf, Replacement, VrfConfig};
