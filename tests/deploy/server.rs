//! A real API server takes every manifest, and refuses them where a field is misspelt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lab::{ApiServer, Bridge};
use crate::rendered::{by_name, chart, chart_text, helm, kustomize, objects, overlays};
use crate::values::each_changed;

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

/// An API server that knows the kinds of others.
struct Asked {
    server: ApiServer,
    _bridge: Bridge,
    knows_policies: bool,
}

impl Asked {
    fn new() -> Self {
        let bridge = Bridge::new();
        let server = ApiServer::start(&bridge);
        server.kubectl(&["apply", "-f", "-"], include_str!("../../testdata/deploy/kinds-of-others.yaml"));
        server.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
        let knows_policies = server.knows_policies();
        Self { server, _bridge: bridge, knows_policies }
    }

    /// kubectl looks at fields by what the server publishes of its kinds, a while after they are established.
    fn finds_what_is_misspelt(&self, object: &Value, field: &str) {
        let kind = object["kind"].as_str().unwrap();
        let wrong = misspelt(object, field);
        if kind.starts_with(POLICY) {
            assert!(policy_is_good(object) && !policy_is_good(&wrong), "{kind}: {field}");
            if !self.knows_policies {
                return;
            }
        }
        until(kind, || dry_run(&self.server, object));
        let words = until(kind, || dry_run(&self.server, &wrong).err().ok_or_else(|| format!("{field}s is taken")));
        assert!(words.contains(&format!("{field}s")), "{kind}: {words}");
    }

    /// Asks about all of them at once.
    fn takes(&self, objects: Vec<Value>) -> Result<(), String> {
        let unknown = |object: &Value| !self.knows_policies && object["kind"].as_str().unwrap().starts_with(POLICY);
        let (policies, rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(unknown);
        if let Some(bad) = policies.iter().find(|policy| !policy_is_good(policy)) {
            return Err(bad.to_string());
        }
        let answer = dry_run(&self.server, &json!({"apiVersion": "v1", "kind": "List", "items": rest}))?;
        let taken = answer.matches("(server dry run)").count();
        if taken == rest.len() { Ok(()) } else { Err(format!("{taken} of {}: {answer}", rest.len())) }
    }
}

/// The objects of the chart with each value changed in turn, each object once.
fn of_each_value() -> Vec<Value> {
    let rendered = helm(&each_changed()).1.into_iter().map(Result::unwrap);
    let all = rendered.flat_map(|texts| objects(&texts.into_values().collect::<Vec<_>>().join("\n---\n")));
    let distinct: BTreeMap<String, Value> = all.map(|object| (object.to_string(), object)).collect();
    distinct.into_values().collect()
}

#[test]
fn an_api_server_takes_all_manifests_and_none_with_a_misspelt_field() {
    let asked = Asked::new();
    let (everything, _) = overlays().pop().unwrap();
    let everything = by_name(&kustomize(everything));
    for (kind, field) in FIELDS {
        let all = everything.iter().filter(|([of, ..], _)| of == kind).map(|(_, object)| object);
        let object = all.into_iter().find(|object| object.to_string().contains(&format!("\"{field}\":"))).unwrap();
        asked.finds_what_is_misspelt(object, field);
    }
    let kinds = everything.keys().map(|[kind, ..]| kind.as_str());
    kinds.for_each(|kind| assert!(kind == "ServiceAccount" || FIELDS.iter().any(|(of, _)| *of == kind), "{kind}"));
    for (folder, values) in overlays() {
        for text in [kustomize(folder), chart_text(&values)] {
            asked.takes(by_name(&text).into_values().collect()).unwrap_or_else(|error| panic!("{folder}: {error}"));
        }
    }
    let changed = of_each_value();
    // A value may be in more than one object, and every kind of the chart has one at least.
    assert!(changed.len() > each_changed().len(), "{}", changed.len());
    asked.takes(changed).unwrap();
    // What the chart cannot tell, the API server does.
    let no_label = json!({"agent": {"podLabels": {"seven": "not a label"}}});
    let refused = asked.takes(objects(&chart(&no_label)["daemonset.yaml"])).unwrap_err();
    assert!(refused.contains("not a label"), "{refused}");
}

const MADE: &str = "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: network-operator, namespace: kube-system}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: network-operator-webhook-authority, namespace: kube-system}\n";

#[test]
fn what_operations_says_takes_all_away_but_the_definitions_and_the_objects() {
    let mut asked = Asked::new();
    // Whose pods are to end first waits for it.
    asked.server.start_controllers("garbagecollector");
    let Asked { server, knows_policies, .. } = &asked;
    let (everything, _) = overlays().pop().unwrap();
    let mut all: Vec<Value> = by_name(&kustomize(everything)).into_values().collect();
    all.retain(|object| *knows_policies || !object["kind"].as_str().unwrap().starts_with(POLICY));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string();
    until("kinds", || server.try_kubectl(&["apply", "-f", "-"], &list));
    let object = json!({
        "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration", "metadata": {"name": "x"},
        "spec": {"vrf": "a", "seq": 1, "import": [], "export": []},
    });
    // The webhook has no pod that would say no.
    until("the kind", || server.try_kubectl(&["apply", "-f", "-"], &object.to_string()));
    // What agents and cert-manager make.
    server.kubectl(&["apply", "-f", "-"], MADE);
    let made = || server.kubectl(&["get", "--ignore-not-found", "-o", "name", "-f", "-"], MADE);
    assert_eq!(made().lines().count(), 2);
    let page = include_str!("../../docs/operations.md");
    let section = page.split_once("\n## Taking it away\n").unwrap().1.split_once("\n## ").unwrap().0;
    let script = section.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    let known = |line: &&str| *knows_policies || !line.contains("validatingadmissionpolicy");
    let script: Vec<&str> = script.lines().filter(known).collect();
    let folder = tempfile::tempdir().unwrap();
    server.shell(folder.path(), Duration::from_secs(240), &script.join("\n")).unwrap();
    let left = server.kubectl(&["get", "--ignore-not-found", "-o", "name", "-f", "-"], &list);
    let left: Vec<&str> = left.lines().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|name| name.starts_with("customresourcedefinition")), "{left:?}");
    assert_eq!(made(), "");
    assert!(server.kubectl(&["get", "vrf", "-o", "name"], "").contains("/x"));
}
