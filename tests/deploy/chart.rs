//! Chart and kustomizations are one: the chart is the source, deploy/base and deploy/components are what it renders.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::rendered::{by_name, chart, chart_text, deploy, helm, kustomize, objects, overlays, pod};

/// Files that the chart's templates become, and with which values.
fn generated() -> Vec<(Value, &'static str, &'static str)> {
    let everything = overlays().pop().unwrap().1;
    vec![
        (json!({}), "rbac.yaml", "base/rbac.yaml"),
        (json!({}), "daemonset.yaml", "base/daemonset.yaml"),
        (json!({}), "admission-policy.yaml", "base/admission-policy.yaml"),
        (json!({"webhook": {"enabled": true}}), "webhook.yaml", "components/webhook/webhook.yaml"),
        (json!({"webhook": {"enabled": true}}), "network-policy.yaml", "components/webhook/network-policy.yaml"),
        (everything.clone(), "webhook-cert-manager.yaml", "components/webhook-cert-manager/certificates.yaml"),
        (
            json!({"onlyAttachBpf": {"enabled": true}}),
            "only-attach-bpf-rbac.yaml",
            "components/only-attach-bpf/rbac.yaml",
        ),
        // What it is before components/monitoring changes it.
        (
            json!({"onlyAttachBpf": {"enabled": true}}),
            "only-attach-bpf.yaml",
            "components/only-attach-bpf/daemonset.yaml",
        ),
        (everything.clone(), "pod-monitor.yaml", "components/monitoring/pod-monitor.yaml"),
        (everything, "prometheus-rules.yaml", "components/monitoring/prometheus-rules.yaml"),
    ]
}

/// `UPDATE_GOLDEN=1 cargo test --test deploy` writes them anew.
#[test]
fn the_files_of_kustomize_are_what_the_chart_renders() {
    let mut templates = BTreeSet::new();
    for (values, template, file) in generated() {
        let text = chart(&values)[template].trim().to_owned() + "\n";
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.starts_with("# "), "{template}: the first line says what it is for");
        let text = format!("{first}\n# Rendered from {template} of the chart: to be changed there.\n{rest}");
        let path = deploy(file);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert!(fs::read_to_string(&path).unwrap_or_default() == text, "deploy/{file} is not what the chart renders");
        templates.insert(template);
    }
    let all = fs::read_dir(deploy("helm/network-operator/templates")).unwrap();
    let all: BTreeSet<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let all: BTreeSet<&str> = all.iter().map(String::as_str).filter(|name| !name.starts_with('_')).collect();
    assert_eq!(templates, all, "each template has its file");
}

#[test]
fn each_overlay_is_the_chart_with_its_values() {
    let mut folders = BTreeSet::new();
    for (folder, values) in overlays() {
        let (one, other) = (by_name(&kustomize(folder)), by_name(&chart_text(&values)));
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{folder}");
        for (name, object) in &one {
            assert_eq!(object, &other[name], "{folder}: {name:?}");
        }
        folders.extend(folder.strip_prefix("overlays/").map(str::to_owned));
    }
    let all = fs::read_dir(deploy("overlays")).unwrap();
    assert_eq!(folders, all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect());
}

#[test]
fn the_chart_passes_helms_lint_and_says_no_to_what_cannot_be() {
    let mut refused = vec![
        (json!({"agent": {"debouce": "30s"}}), "debouce"),
        (json!({"agent": {"debounce": "soon"}}), "debounce"),
        (json!({"agent": {"updateStrategy": "Recreate"}}), "updateStrategy"),
        // A rule without ports is for all of them.
        (json!({"webhook": {"networkPolicy": {"apiServerPorts": []}}}), "apiServerPorts"),
        // Nobody would be replaced, or more agents than there are.
        (json!({"agent": {"maxUnavailable": "0%"}}), "maxUnavailable"),
        (json!({"agent": {"maxUnavailable": "101%"}}), "maxUnavailable"),
        // The agent finishes a run for 25 s.
        (json!({"agent": {"terminationGracePeriodSeconds": 25}}), "terminationGracePeriodSeconds"),
        // The selectors would not match the pods.
        (json!({"agent": {"podLabels": {"app.kubernetes.io/name": "x"}}}), "app.kubernetes.io/name"),
        (json!({"agent": {"podLabels": {"app.kubernetes.io/component": "x"}}}), "app.kubernetes.io/component"),
        (json!({"webhook": {"enabled": true, "listen": "localhost:9443"}}), "/webhook/listen"),
        (json!({"monitoring": {"podMonitor": {"enabled": true}}}), "does not reach agent.listen.address 127.0.0.1;"),
        (
            json!({"monitoring": {"podMonitor": {"enabled": true}}, "agent": {"listen": {"address": "[::1]"}}}),
            "does not reach agent.listen.address [::1];",
        ),
    ];
    let values: Vec<Value> = refused.iter_mut().map(|(values, _)| values.take()).collect();
    let (answer, rendered) = helm(&values);
    for (answer, (_, words)) in rendered.into_iter().zip(refused) {
        let error = answer.unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
    assert_eq!(answer.lint["errors"], json!([]));
    let messages = answer.lint["messages"].as_array().unwrap();
    // 1 is a recommendation: it asks for an icon.
    assert!(messages.iter().all(|message| message["severity"] == 1), "{messages:?}");
    assert_eq!(answer.crds.len(), 2);
}

/// Addresses, and the host that the probes name: none where they reach the agent by the node's own address.
const ADDRESSES: [(&str, Option<&str>); 11] = [
    ("127.0.0.1", Some("127.0.0.1")),
    ("127.255.249.199", Some("127.255.249.199")),
    ("192.0.2.70", Some("192.0.2.70")),
    ("0.0.0.0", None),
    ("$(HOST_IP)", None),
    ("[::1]", Some("::1")),
    ("[2001:db8::7]", Some("2001:db8::7")),
    ("[1:2:3:4:5:6:7::]", Some("1:2:3:4:5:6:7::")),
    ("[2001:DB8:0:0:0:0:0:7]", Some("2001:DB8:0:0:0:0:0:7")),
    ("[::]", None),
    ("[$(HOST_IP)]", None),
];

const NO_ADDRESSES: [&str; 20] = [
    "",
    "localhost",
    "none",
    "$(POD)",
    "$(HOST_IP).7",
    "127.0.0.1:9342",
    "127.0.0.256",
    "127.0.0.01",
    "127.0.0",
    " 127.0.0.1",
    "127.0.0.1\n",
    "[127.0.0.1]",
    "::1",
    "[::1",
    "[:::]",
    "[1::2::3]",
    "[1:2:3:4:5:6:7]",
    "[1:2:3:4:5:6:7:8:9]",
    "[1:2:3:4::5:6:7:8]",
    "[::g]",
];

#[test]
fn the_chart_takes_the_addresses_that_the_agent_takes_and_its_probes_ask_there() {
    let values = |address: &str| json!({"agent": {"listen": {"address": address}}, "onlyAttachBpf": {"enabled": true}});
    let parsed = |address: &str, host_ip: &str| {
        format!("{}:9342", address.replace("$(HOST_IP)", host_ip)).parse::<SocketAddr>().is_ok()
    };
    let sets: Vec<Value> = ADDRESSES.iter().map(|(address, _)| values(address)).collect();
    for ((address, host), texts) in ADDRESSES.into_iter().zip(helm(&sets).1) {
        assert!(parsed(address, if address.starts_with('[') { "2001:db8::7" } else { "192.0.2.7" }), "{address}");
        let texts = texts.unwrap_or_else(|error| panic!("{address}: {error}"));
        for template in ["daemonset.yaml", "only-attach-bpf.yaml"] {
            let (_, container) = pod(&texts[template]);
            let flag = json!(format!("--listen={address}:9342"));
            assert!(container["args"].as_array().unwrap().contains(&flag), "{template}: {flag}");
            for probe in ["livenessProbe", "readinessProbe"] {
                let asked = container[probe]["httpGet"].get("host").and_then(Value::as_str);
                assert_eq!(asked, host, "{template}: {probe} of {address}");
            }
        }
    }
    for (address, answer) in NO_ADDRESSES.into_iter().zip(helm(&NO_ADDRESSES.map(values)).1) {
        assert!(!parsed(address, "192.0.2.7"), "{address:?}");
        let error = answer.expect_err(address);
        assert!(error.contains("/agent/listen/address"), "{address:?}: {error}");
    }
}

#[test]
fn the_pod_monitor_selects_agents_of_both_kinds_and_nothing_else() {
    let texts = chart(&overlays().pop().unwrap().1);
    let monitor = objects(&texts["pod-monitor.yaml"]).remove(0);
    let selected = |labels: &Value| {
        monitor["spec"]["selector"]["matchExpressions"].as_array().unwrap().iter().all(|expression| {
            let label = &labels[expression["key"].as_str().unwrap()];
            let listed = expression["values"].as_array().unwrap().contains(label);
            // A pod without the label has none of the values.
            match expression["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                other => panic!("{other}"),
            }
        })
    };
    let mut kinds = Vec::new();
    for object in texts.values().flat_map(|text| objects(text)) {
        if let Some(labels) = object.pointer("/spec/template/metadata/labels") {
            assert_eq!(selected(labels), object["kind"] == "DaemonSet", "{labels}");
            kinds.push(object["kind"].as_str().unwrap().to_owned());
        }
    }
    kinds.sort();
    assert_eq!(kinds, ["DaemonSet", "DaemonSet", "Deployment"]);
    // Another program of the same name.
    assert!(!selected(&json!({"app.kubernetes.io/name": "network-operator"})));
}

#[test]
fn agents_of_both_kinds_are_replaced_in_the_way_that_the_values_say() {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 3}});
    for (way, meant) in [("RollingUpdate", rolling), ("OnDelete", json!({"type": "OnDelete"}))] {
        let agent = json!({"updateStrategy": way, "maxUnavailable": 3});
        let texts = chart(&json!({"agent": agent, "onlyAttachBpf": {"enabled": true}}));
        for template in ["daemonset.yaml", "only-attach-bpf.yaml"] {
            let set = objects(&texts[template]).remove(0);
            assert_eq!(set["spec"]["updateStrategy"], meant, "{template}");
        }
    }
}

#[test]
fn agents_run_on_every_node_without_privileges_beyond_those_that_are_listed() {
    let texts = chart(&overlays().pop().unwrap().1);
    for (template, component) in [("daemonset.yaml", "agent"), ("only-attach-bpf.yaml", "only-attach-bpf")] {
        let (pod, container) = pod(&texts[template]);
        assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]), "{component}");
        assert_eq!((&pod["hostNetwork"], &pod["priorityClassName"]), (&json!(true), &json!("system-node-critical")));
        assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
        let security = &container["securityContext"];
        for (key, value) in
            [("privileged", false), ("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)]
        {
            assert_eq!(security[key], json!(value), "{component}: {key}");
        }
        assert!(pod.get("hostPID").is_none() && pod.get("hostIPC").is_none());
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let agent =
            include_str!("../../src/agent.rs").split_once("const GRACE: Duration = Duration::from_secs(").unwrap().1;
        assert!(grace > agent.split_once(')').unwrap().0.parse().unwrap(), "{component}");
        // The agent of a node that is not ready must be among those that are replaced.
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"].get("host"), None, "{component} listens on the address of the node");
        }
    }
    let (_, container) = pod(&chart(&json!({}))["daemonset.yaml"]);
    assert_eq!(container["livenessProbe"]["httpGet"]["host"], "127.0.0.1");
}
