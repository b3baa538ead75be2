//! Whether the CRD stands: who removes it has all objects deleted first, and nobody asked for that.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::response::reason;
use kube::{Api, CustomResourceExt, ResourceExt};

use super::with_causes;
use crate::api::VrfRouteConfiguration;

/// An API server that has taken a question and dies says nothing any more, and a connection without a read timeout waits for ever.
const LIMIT: Duration = Duration::from_secs(10);

/// What the API server says of the CRD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Crd {
    /// It is there, and is to stay. Another UID is another CRD, whose objects are others, too.
    Stands { uid: String, created: Option<Timestamp> },
    /// It is not there, or is being removed, with all objects.
    Goes,
}

/// Asks once.
///
/// # Errors
/// There was no answer, in words.
pub(super) async fn ask(crds: Api<CustomResourceDefinition>) -> Result<Crd, String> {
    let name = VrfRouteConfiguration::crd_name();
    match tokio::time::timeout(LIMIT, crds.get_metadata(name)).await {
        Ok(Ok(crd)) if crd.metadata.deletion_timestamp.is_none() => {
            let created = crd.metadata.creation_timestamp.as_ref().map(|time| time.0);
            Ok(Crd::Stands { uid: crd.uid().unwrap_or_default(), created })
        }
        Ok(Ok(_)) => Ok(Crd::Goes),
        // Whoever else answers with 404, such as a proxy, gives no reason.
        Ok(Err(kube::Error::Api(status))) if status.reason == reason::NOT_FOUND => Ok(Crd::Goes),
        Ok(Err(error)) => {
            let cure = match &error {
                kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                    format!("; the service account needs get on the customresourcedefinition {name}")
                }
                _ => String::new(),
            };
            Err(with_causes(&error) + &cure)
        }
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::{Json, Router};
    use kube::Client;
    use serde_json::{Value, json};

    /// What is made of this answer of an API server.
    async fn asked(code: u16, body: Value) -> Result<Crd, String> {
        let server = Router::new().fallback(move || async move { (StatusCode::from_u16(code).unwrap(), Json(body)) });
        ask(Api::all(Client::new(server, "default"))).await
    }

    /// An API server's refusal.
    pub(crate) fn refusal(code: u16, reason: &str) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
    }

    #[tokio::test]
    async fn a_crd_stands_goes_or_is_not_told_of() {
        let mut crd = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": VrfRouteConfiguration::crd_name(), "uid": "1", "creationTimestamp": "1970-01-01T00:00:07Z"},
        });
        let created = Timestamp::from_second(7).ok();
        assert_eq!(asked(200, crd.clone()).await, Ok(Crd::Stands { uid: "1".to_owned(), created }));
        crd["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(asked(200, crd).await, Ok(Crd::Goes));
        assert_eq!(asked(404, refusal(404, "NotFound")).await, Ok(Crd::Goes));
        let forbidden = asked(403, refusal(403, "Forbidden")).await.unwrap_err();
        assert!(
            forbidden.ends_with(
                "needs get on the customresourcedefinition vrfrouteconfigurations.network.schiff.telekom.de"
            ),
            "{forbidden}"
        );
        assert!(asked(404, json!("default backend")).await.is_err());
        assert!(asked(503, refusal(503, "ServiceUnavailable")).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_says_nothing_is_not_waited_for() {
        let server = Router::new().fallback(std::future::pending::<()>);
        let said = ask(Api::all(Client::new(server, "default"))).await;
        assert_eq!(said, Err("no answer within 10 s".to_owned()));
    }
}
