//! What the site says once per node: the operator file, typed.

mod health;
mod load;
mod operator;

pub use health::{HealthConfig, HealthConfigError, Pattern, Target};
pub use load::ConfigError;
pub use operator::{BpfConfig, OnReloadFailure, OperatorConfig, RefusedVrf, Replacement, VrfConfig};

/// Reads one document of YAML; what is wrong is said in one line, with line and column.
fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
        .map_err(|error| error.to_string())
}
