//! Every value of the chart does something, in the place that is meant, and is described.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::rendered::{chart, deploy, helm, objects};

const AGENT: &str = "daemonset.yaml";
const ROUTER: &str = "only-attach-bpf.yaml";
const WEBHOOK: &str = "webhook.yaml";
const POLICY: &str = "admission-policy.yaml";
const NETWORK: &str = "network-policy.yaml";
const MONITOR: &str = "pod-monitor.yaml";
const RULES: &str = "prometheus-rules.yaml";
const CERTIFICATES: &str = "webhook-cert-manager.yaml";

/// A leaf of values.yaml, another value, and what that brings into which file.
type Change = (&'static str, Value, &'static str, &'static str);

fn changes() -> Vec<Change> {
    [changes_of_agents(), changes_of_the_webhook(), changes_of_monitoring()].concat()
}

fn tolerated() -> Value {
    json!([{"key": "seven", "operator": "Exists"}])
}

fn changes_of_agents() -> Vec<Change> {
    let digest = format!("sha256:{}", "0a".repeat(32));
    vec![
        ("image.repository", json!("registry.example/vrf"), AGENT, "image: registry.example/vrf:"),
        ("image.tag", json!("7.7"), WEBHOOK, "image: network-operator:7.7"),
        ("image.digest", json!(digest), AGENT, "@sha256:0a0a"),
        ("image.pullPolicy", json!("Always"), ROUTER, "imagePullPolicy: Always"),
        ("imagePullSecrets", json!([{"name": "seven"}]), WEBHOOK, "imagePullSecrets:\n      - name: seven"),
        ("apiServer.host", json!("192.0.2.7"), AGENT, "{name: KUBERNETES_SERVICE_HOST, value: \"192.0.2.7\"}"),
        ("apiServer.port", json!(7443), ROUTER, "{name: KUBERNETES_SERVICE_PORT, value: \"7443\"}"),
        ("agent.debounce", json!("7s"), AGENT, "--debounce=7s"),
        ("agent.reloadLimit", json!("7s"), AGENT, "--reload-limit=7s"),
        ("agent.inputLimit", json!("7s"), AGENT, "--input-limit=7s"),
        ("agent.checkInterval", json!("7s"), ROUTER, "--check-interval=7s"),
        ("agent.repairsPerMinute", json!(7), AGENT, "--repairs-per-minute=7"),
        ("agent.listen.address", json!("[$(HOST_IP)]"), AGENT, "--listen=[$(HOST_IP)]:9342"),
        ("agent.listen.port", json!(7342), AGENT, "containerPort: 7342"),
        ("agent.log.format", json!("json"), ROUTER, "--log-format=json"),
        ("agent.log.level", json!("debug"), AGENT, "{name: RUST_LOG, value: \"debug\"}"),
        ("agent.extraArgs", json!(["--templates=/opt/network-operator/templates"]), AGENT, "- --templates=/opt/"),
        ("agent.extraEnv", json!([{"name": "SEVEN", "value": "7"}]), ROUTER, "- name: SEVEN"),
        ("agent.resources.requests.cpu", json!("7m"), AGENT, "cpu: 7m"),
        ("agent.resources.requests.memory", json!("7Mi"), ROUTER, "memory: 7Mi"),
        ("agent.resources.limits.memory", json!("77Mi"), AGENT, "memory: 77Mi"),
        ("agent.priorityClassName", json!("seven"), AGENT, "priorityClassName: seven"),
        ("agent.tolerations", tolerated(), ROUTER, "key: seven"),
        ("agent.nodeSelector", json!({"seven": "7"}), AGENT, "nodeSelector:\n        seven: \"7\""),
        ("agent.updateStrategy", json!("OnDelete"), AGENT, "updateStrategy: {type: OnDelete}\n"),
        ("agent.maxUnavailable", json!("7%"), AGENT, "maxUnavailable: 7%"),
        ("agent.terminationGracePeriodSeconds", json!(77), ROUTER, "terminationGracePeriodSeconds: 77"),
        ("agent.podLabels", json!({"seven": "label"}), AGENT, "seven: label"),
        ("agent.podAnnotations", json!({"seven": "note"}), ROUTER, "seven: note"),
        ("onlyAttachBpf.enabled", json!(true), AGENT, "operator: DoesNotExist"),
        ("onlyAttachBpf.nodeLabel", json!("seven"), ROUTER, "{key: seven, operator: Exists}"),
        ("admissionPolicy.enabled", json!(true), POLICY, "kind: ValidatingAdmissionPolicyBinding"),
        ("admissionPolicy.taints", json!(["example.com/seven"]), POLICY, "'example.com/seven'"),
    ]
}

fn changes_of_the_webhook() -> Vec<Change> {
    vec![
        ("webhook.enabled", json!(true), WEBHOOK, "kind: Deployment"),
        ("webhook.replicas", json!(7), WEBHOOK, "replicas: 7"),
        ("webhook.listen", json!("0.0.0.0:7443"), WEBHOOK, "--listen=0.0.0.0:7443"),
        ("webhook.configMap", json!("seven"), WEBHOOK, "configMap: {name: seven}"),
        ("webhook.templateKey", json!("frr.conf.tpl"), WEBHOOK, "--template=/config/frr.conf.tpl"),
        ("webhook.tlsSecret", json!("seven"), WEBHOOK, "secretName: seven"),
        ("webhook.caBundle", json!("c2V2ZW4="), WEBHOOK, "caBundle: c2V2ZW4="),
        ("webhook.certManager", json!(true), CERTIFICATES, "kind: Issuer"),
        ("webhook.failurePolicy", json!("Fail"), WEBHOOK, "failurePolicy: Fail"),
        ("webhook.timeoutSeconds", json!(7), WEBHOOK, "timeoutSeconds: 7"),
        ("webhook.logFormat", json!("json"), WEBHOOK, "--log-format=json"),
        ("webhook.resources.requests.cpu", json!("7m"), WEBHOOK, "cpu: 7m"),
        ("webhook.resources.requests.memory", json!("7Mi"), WEBHOOK, "memory: 7Mi"),
        ("webhook.resources.limits.memory", json!("77Mi"), WEBHOOK, "memory: 77Mi"),
        ("webhook.priorityClassName", json!("seven"), WEBHOOK, "priorityClassName: seven"),
        ("webhook.tolerations", tolerated(), WEBHOOK, "key: seven"),
        ("webhook.nodeSelector", json!({"seven": "7"}), WEBHOOK, "nodeSelector:\n        seven: \"7\""),
        ("webhook.networkPolicy.enabled", json!(true), NETWORK, "kind: NetworkPolicy"),
        ("webhook.networkPolicy.apiServerCIDRs", json!(["192.0.2.0/28"]), NETWORK, "ipBlock: {cidr: \"192.0.2.0/28\"}"),
        ("webhook.networkPolicy.apiServerPorts", json!([7443]), NETWORK, "{protocol: TCP, port: 7443}"),
    ]
}

fn changes_of_monitoring() -> Vec<Change> {
    vec![
        ("monitoring.podMonitor.enabled", json!(true), MONITOR, "kind: PodMonitor"),
        ("monitoring.podMonitor.labels", json!({"seven": "7"}), MONITOR, "seven: \"7\""),
        ("monitoring.podMonitor.interval", json!("7s"), MONITOR, "interval: 7s"),
        ("monitoring.prometheusRule.enabled", json!(true), RULES, "kind: PrometheusRule"),
        ("monitoring.prometheusRule.labels", json!({"seven": "7"}), RULES, "seven: \"7\""),
    ]
}

/// Everything on, so that each value has its place; a switch is turned from off to on.
fn before(path: &str) -> Value {
    let mut values = json!({
        "apiServer": {"host": "api.example"},
        "agent": {"listen": {"address": "$(HOST_IP)"}},
        "onlyAttachBpf": {"enabled": true},
        "webhook": {"enabled": true, "certManager": true},
        "monitoring": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}},
    });
    match path {
        "apiServer.host" => set(&mut values, path, json!("")),
        _ if path.ends_with("enabled") || path == "webhook.certManager" => set(&mut values, path, json!(false)),
        _ => {}
    }
    values
}

fn after(path: &str, value: &Value) -> Value {
    let mut values = before(path);
    set(&mut values, path, value.clone());
    values
}

/// Values with each of them changed in turn.
pub(crate) fn each_changed() -> Vec<Value> {
    changes().into_iter().map(|(path, value, ..)| after(path, &value)).collect()
}

fn set(values: &mut Value, path: &str, value: Value) {
    let place = path.split('.').fold(values, |place, key| {
        if place.is_null() {
            *place = json!({});
        }
        &mut place[key]
    });
    *place = value;
}

fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (key, value) in map {
                leaves(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, found);
            }
        }
        None => drop(found.insert(path.to_owned(), value.clone())),
    }
}

fn defaults() -> BTreeMap<String, Value> {
    let text = fs::read_to_string(deploy("helm/network-operator/values.yaml")).unwrap();
    let mut found = BTreeMap::new();
    leaves("", &serde_saphyr::from_str(&text).unwrap(), &mut found);
    found
}

#[test]
fn each_value_alone_changes_what_it_is_for() {
    let changes = changes();
    let defaults = defaults();
    let told: BTreeSet<&str> = changes.iter().map(|(path, ..)| *path).collect();
    assert_eq!(told, defaults.keys().map(String::as_str).collect(), "each leaf of values.yaml has a line");
    assert_eq!(told.len(), changes.len());
    let mut sets = Vec::new();
    for (path, value, ..) in &changes {
        sets.extend([before(path), after(path, value)]);
    }
    let rendered: Vec<_> = helm(&sets).1.into_iter().map(Result::unwrap).collect();
    for ((path, _, file, meant), pair) in changes.iter().zip(rendered.chunks(2)) {
        let [before, after] = [&pair[0][*file], &pair[1][*file]];
        assert!(!before.contains(meant), "{path}: {meant:?} is in {file} before it is changed");
        assert!(after.contains(meant), "{path}: {meant:?} is not in {file}:\n{after}");
    }
}

#[test]
fn a_profile_in_the_annotations_takes_the_place_of_the_charts_own() {
    let key = "container.apparmor.security.beta.kubernetes.io/agent";
    let cases = [
        (json!({}), json!({key: "unconfined"})),
        (json!({"seven": "note"}), json!({key: "unconfined", "seven": "note"})),
        (json!({key: "localhost/seven"}), json!({key: "localhost/seven"})),
    ];
    for (annotations, meant) in cases {
        let texts = chart(&json!({"agent": {"podAnnotations": annotations}, "onlyAttachBpf": {"enabled": true}}));
        for file in [AGENT, ROUTER] {
            assert_eq!(texts[file].matches(key).count(), 1, "{file}: {annotations}");
            // It takes no key twice.
            let set = objects(&texts[file]).remove(0);
            assert_eq!(set["spec"]["template"]["metadata"]["annotations"], meant, "{file}");
        }
    }
}

#[test]
fn a_value_of_another_kind_is_refused() {
    let defaults = defaults();
    let wrong = |value: &Value| if value.is_object() { json!("text") } else { json!({"text": true}) };
    let sets: Vec<Value> = defaults
        .iter()
        .map(|(path, value)| {
            let mut values = json!({});
            set(&mut values, path, wrong(value));
            values
        })
        .collect();
    for (path, answer) in defaults.keys().zip(helm(&sets).1) {
        assert!(answer.is_err(), "{path} may be anything");
    }
}

#[test]
fn each_value_is_in_the_docs_with_its_default() {
    let defaults = defaults();
    let told = fs::read_to_string(crate::rendered::root().join("docs/deployment.md")).unwrap();
    let rows: BTreeMap<&str, &str> =
        told.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).collect();
    for (path, value) in defaults {
        let shown = match &value {
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            Value::String(text) => format!("`{text}`"),
            Value::Array(list) if list.is_empty() => "none".to_owned(),
            Value::Object(map) if map.is_empty() => "none".to_owned(),
            Value::Array(list) if list.iter().any(Value::is_object) => "every taint".to_owned(),
            other => format!("`{other}`"),
        };
        let row = rows.get(path.as_str()).unwrap_or_else(|| panic!("docs/deployment.md lacks {path}"));
        assert!(row.starts_with(&format!("{shown} | ")), "docs/deployment.md: {path} is {shown}, not {row}");
    }
}
