//! Chart and kustomizations are one: the chart is the source, deploy/base and deploy/components are what it renders.

use std::collections::BTreeSet;
use std::fs;

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
        (json!({"monitoring": {"podMonitor": {"enabled": true}}}), "Prometheus does not reach agent.listen.address"),
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
