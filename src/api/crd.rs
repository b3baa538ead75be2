//! The custom resource definitions as YAML: what `crds/` holds and `network-operator crds` prints.

use kube::CustomResourceExt;

use super::VrfRouteConfiguration;

/// All definitions.
///
/// # Errors
/// None that a build which passed its tests has.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&VrfRouteConfiguration::crd())
}
