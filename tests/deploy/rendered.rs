//! The chart and the kustomizations, rendered by Helm's SDK and by kustomize.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::artefact;

/// Text by the name of its template.
pub(crate) type Templates = BTreeMap<String, String>;

/// What tests/lab/helm.py prints.
#[derive(Deserialize)]
pub(crate) struct Answer {
    pub(crate) crds: Templates,
    pub(crate) lint: Value,
    rendered: Vec<Rendered>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rendered {
    Templates(Templates),
    Error(String),
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

/// The chart's name and namespace are those of `kubectl apply -k`.
pub(crate) fn helm(values: &[Value]) -> (Answer, Vec<Result<Templates, String>>) {
    let mut command = Command::new(artefact("helm/bin/python"));
    command.arg(root().join("tests/lab/helm.py")).arg(deploy("helm/network-operator"));
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(json!(values).to_string().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut answer: Answer = serde_json::from_slice(&output.stdout).unwrap();
    let rendered = std::mem::take(&mut answer.rendered).into_iter().map(|rendered| match rendered {
        Rendered::Templates(texts) => {
            let short = |(name, text): (String, String)| (name.rsplit('/').next().unwrap().to_owned(), text);
            Ok(texts.into_iter().map(short).collect())
        }
        Rendered::Error(error) => Err(error),
    });
    let rendered: Vec<_> = rendered.collect();
    assert_eq!(rendered.len(), values.len());
    (answer, rendered)
}

/// Renders the chart with one set of values.
pub(crate) fn chart(values: &Value) -> Templates {
    helm(std::slice::from_ref(values)).1.remove(0).unwrap_or_else(|error| panic!("{values}: {error}"))
}

/// All objects of the chart, custom resource definitions, too.
pub(crate) fn chart_text(values: &Value) -> String {
    let (answer, mut rendered) = helm(std::slice::from_ref(values));
    let texts = rendered.remove(0).unwrap_or_else(|error| panic!("{values}: {error}"));
    answer.crds.into_values().chain(texts.into_values()).collect::<Vec<_>>().join("\n---\n")
}

/// What `kubectl apply -k` applies.
pub(crate) fn kustomize(folder: &str) -> String {
    let output =
        Command::new(artefact("kustomize/usr/bin/kustomize")).arg("build").arg(deploy(folder)).output().unwrap();
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The objects of a text with several documents.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let mut bytes = text.as_bytes();
    let documents = serde_saphyr::read::<_, Value>(&mut bytes).map(|document| document.unwrap());
    documents.filter(|document| !document.is_null()).map(whole_numbers).collect()
}

/// kustomize writes 1 where 1.0 stood.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            #[allow(clippy::cast_possible_truncation, reason = "it has no fraction, and is small")]
            Some(float) if number.is_f64() && float.fract() == 0.0 => json!(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(list) => list.into_iter().map(whole_numbers).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect(),
        other => other,
    }
}

/// The same by kind, namespace and name; each once.
pub(crate) fn by_name(text: &str) -> BTreeMap<[String; 3], Value> {
    let all = objects(text);
    let count = all.len();
    let part = |object: &Value, path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let named: BTreeMap<_, _> = all
        .into_iter()
        .map(|object| (["/kind", "/metadata/namespace", "/metadata/name"].map(|path| part(&object, path)), object))
        .collect();
    assert_eq!(named.len(), count, "an object twice");
    named
}

/// The DaemonSet's or Deployment's only container, with the pod around it.
pub(crate) fn pod(text: &str) -> (Value, Value) {
    let workload = objects(text).into_iter().find(|object| object["spec"]["template"].is_object()).unwrap();
    let pod = workload["spec"]["template"]["spec"].clone();
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    (pod.clone(), pod["containers"][0].clone())
}

/// Capabilities that a container keeps, in the order of the manifest.
pub(crate) fn capabilities(container: &Value) -> Vec<String> {
    let capabilities = &container["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"], json!(["ALL"]));
    serde_json::from_value(capabilities["add"].clone()).unwrap()
}

/// Overlays, and the values that make the same of the chart.
pub(crate) fn overlays() -> Vec<(&'static str, Value)> {
    let listen = json!({"listen": {"address": "$(HOST_IP)"}});
    let monitoring = json!({"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}});
    let (webhook, router) = (json!({"enabled": true, "certManager": true}), json!({"enabled": true}));
    vec![
        ("base", json!({})),
        ("overlays/webhook", json!({"webhook": {"enabled": true}})),
        ("overlays/webhook-cert-manager", json!({"webhook": webhook})),
        ("overlays/monitoring", json!({"agent": listen, "monitoring": monitoring})),
        ("overlays/only-attach-bpf", json!({"onlyAttachBpf": router})),
        ("overlays/kubernetes-before-1.30", json!({"admissionPolicy": {"enabled": false}})),
        (
            "overlays/everything",
            json!({"agent": listen, "monitoring": monitoring, "webhook": webhook, "onlyAttachBpf": router}),
        ),
    ]
}
