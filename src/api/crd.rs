//! The custom resource definitions as YAML: what `crds/` holds and `network-operator crds` prints.

use kube::CustomResourceExt;

use super::{NodeNetworkState, VrfRouteConfiguration};

/// All definitions.
///
/// # Errors
/// None that a build which passed its tests has.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let definitions = [VrfRouteConfiguration::crd(), NodeNetworkState::crd()];
    let texts: Result<Vec<String>, _> = definitions.iter().map(serde_saphyr::to_string).collect();
    Ok(texts?.join("---\n"))
}
