//! One stored object, as JSON, made a typed one: what cannot be read is rejected by name and field.

use serde::Deserialize;
use serde_json::Value;

use crate::api::VrfRouteConfiguration;
use crate::desired::{Rejection, RejectionReason};
use kube::Resource;

/// Whether a document is a `VRFRouteConfiguration` of a version that is known here.
pub fn is_ours(value: &Value) -> bool {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    text("kind") == Some(&VrfRouteConfiguration::kind(&()))
        && text("apiVersion") == Some(&VrfRouteConfiguration::api_version(&()))
}

/// Makes a typed object.
///
/// # Errors
/// A field of the wrong type or a missing one; `place` names an object that has no name.
pub fn parse(place: &str, value: Value) -> Result<VrfRouteConfiguration, Rejection> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let object = name.clone().unwrap_or_else(|| place.to_owned());
    let reject = |field: String, message: String| Rejection {
        object: object.clone(),
        field,
        reason: RejectionReason::Unreadable,
        message,
        cure: "correct that field; the schema is printed by `network-operator crds`".to_owned(),
    };
    if name.is_none() {
        return Err(reject("metadata.name".to_owned(), "the object has no name".to_owned()));
    }
    // To keep the path of each field takes as long as all the rest: it is only asked for where there is a fault.
    VrfRouteConfiguration::deserialize(&value).or_else(|_| {
        let named = serde_path_to_error::deserialize(value);
        named.map_err(|error| reject(error.path().to_string(), error.inner().to_string()))
    })
}
