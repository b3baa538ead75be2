//! A real API server takes every manifest, and refuses them where a field is misspelt.

use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::lab::{ApiServer, Bridge};
use crate::rendered::{by_name, chart_text, kustomize, overlays};

const LIMIT: Duration = Duration::from_secs(60);
const POLICY: &str = "ValidatingAdmissionPolicy";

/// Waits until kubectl's answer is good: what is new to an API server is discovered a moment later.
fn until<T>(what: &str, look: impl Fn() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(error) => assert!(begin.elapsed() < LIMIT, "{what}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn dry_run(server: &ApiServer, object: &Value) -> Result<String, String> {
    server.try_kubectl(&["apply", "--dry-run=server", "-f", "-"], &object.to_string())
}

/// As the type has it, and nothing besides: an unknown field would be lost on the way.
fn is_exactly<T: DeserializeOwned + Serialize>(object: &Value) -> bool {
    let typed: Result<T, _> = serde_json::from_value(object.clone());
    typed.is_ok_and(|typed| serde_json::to_value(typed).unwrap() == *object)
}

/// What an API server before 1.30 cannot say of the admission policy; a later one is asked, too.
fn policy_is_good(object: &Value) -> bool {
    match object["kind"].as_str().unwrap() {
        POLICY => is_exactly::<ValidatingAdmissionPolicy>(object),
        _ => is_exactly::<ValidatingAdmissionPolicyBinding>(object),
    }
}

/// Replaces the name of a field, wherever it is.
fn misspelt(object: &Value, field: &str) -> Value {
    let text = object.to_string();
    let (right, wrong) = (format!("\"{field}\":"), format!("\"{field}s\":"));
    assert!(text.contains(&right), "{field} is in {text}");
    serde_json::from_str(&text.replace(&right, &wrong)).unwrap()
}

/// A field of each kind.
const FIELDS: [(&str, &str); 16] = [
    ("ClusterRole", "resources"),
    ("ClusterRoleBinding", "roleRef"),
    ("Role", "verbs"),
    ("RoleBinding", "subjects"),
    ("DaemonSet", "readOnlyRootFilesystem"),
    ("Deployment", "whenUnsatisfiable"),
    ("Service", "targetPort"),
    ("NetworkPolicy", "podSelector"),
    ("ValidatingWebhookConfiguration", "timeoutSeconds"),
    ("CustomResourceDefinition", "subresources"),
    ("PodMonitor", "podMetricsEndpoints"),
    ("PrometheusRule", "expr"),
    ("Issuer", "selfSigned"),
    ("Certificate", "dnsNames"),
    (POLICY, "matchConditions"),
    ("ValidatingAdmissionPolicyBinding", "policyName"),
];

#[test]
fn an_api_server_takes_all_manifests_and_none_with_a_misspelt_field() {
    let bridge = Bridge::new();
    let server = ApiServer::start(&bridge);
    server.kubectl(&["apply", "-f", "-"], include_str!("../../testdata/deploy/kinds-of-others.yaml"));
    server.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
    let admission = server.kubectl(&["api-resources", "--api-group=admissionregistration.k8s.io", "-o=name"], "");
    let knows_policies = admission.contains("validatingadmissionpolicies.");
    let (everything, _) = overlays().pop().unwrap();
    let everything = by_name(&kustomize(everything));
    // kubectl looks at fields by what the server publishes of its kinds, a while after they are established.
    for (kind, field) in FIELDS {
        let all = everything.iter().filter(|([of, ..], _)| of == kind).map(|(_, object)| object);
        let object = all.into_iter().find(|object| object.to_string().contains(&format!("\"{field}\":"))).unwrap();
        let wrong = misspelt(object, field);
        if kind.starts_with(POLICY) {
            assert!(policy_is_good(object) && !policy_is_good(&wrong), "{kind}: {field}");
            if !knows_policies {
                continue;
            }
        }
        until(kind, || dry_run(&server, object));
        let words = until(kind, || dry_run(&server, &wrong).err().ok_or_else(|| format!("{field}s is taken")));
        assert!(words.contains(&format!("{field}s")), "{kind}: {words}");
    }
    let kinds = everything.keys().map(|[kind, ..]| kind.as_str());
    kinds.for_each(|kind| assert!(kind == "ServiceAccount" || FIELDS.iter().any(|(of, _)| *of == kind), "{kind}"));
    for (folder, values) in overlays() {
        for text in [kustomize(folder), chart_text(&values)] {
            let (policies, rest): (Vec<_>, Vec<_>) = by_name(&text)
                .into_values()
                .partition(|object| !knows_policies && object["kind"].as_str().unwrap().starts_with(POLICY));
            assert!(policies.iter().all(policy_is_good), "{folder}");
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": rest});
            let answer = dry_run(&server, &list).unwrap_or_else(|error| panic!("{folder}: {error}"));
            assert_eq!(answer.matches("(server dry run)").count(), rest.len(), "{folder}: {answer}");
        }
    }
}
