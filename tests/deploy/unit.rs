//! The systemd unit: systemd takes it, and it may do what the DaemonSet's container may.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::rendered::{capabilities, chart, deploy, pod, root};

fn unit() -> String {
    fs::read_to_string(deploy("systemd/network-operator.service")).unwrap()
}

/// The last value of each key.
fn settings() -> BTreeMap<String, String> {
    let text = unit();
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn analyze(args: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn systemd_finds_no_fault_in_the_unit_and_finds_it_as_exposed_as_the_docs_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network-operator.service");
    let program = env!("CARGO_BIN_EXE_network-operator");
    let verify = |text: &str| {
        fs::write(&path, text.replace("/usr/local/bin/network-operator", program)).unwrap();
        analyze(&["verify", path.to_str().unwrap()])
    };
    assert_eq!(verify(&unit()), (true, String::new()));
    let (_, said) = verify(&unit().replace("ProtectClock=", "ProtectClocks="));
    assert!(said.contains("ProtectClocks"), "{said}");
    let file = deploy("systemd/network-operator.service");
    let (good, said) = analyze(&["security", "--offline=yes", "--no-pager", file.to_str().unwrap()]);
    assert!(good, "{said}");
    let figure = said.split_once("Overall exposure level for network-operator.service: ").unwrap().1;
    let figure = figure.split_whitespace().next().unwrap();
    let docs = fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    assert!(docs.contains(&format!("an exposure of {figure} (")), "docs/deployment.md does not say {figure}");
}

#[test]
fn the_unit_may_do_what_the_container_may() {
    let (pod, container) = pod(&chart(&json!({}))["daemonset.yaml"]);
    let settings = settings();
    let kept = &settings["CapabilityBoundingSet"];
    let kept: Vec<&str> = kept.split(' ').map(|name| name.strip_prefix("CAP_").unwrap()).collect();
    assert_eq!(kept, capabilities(&container));
    assert_eq!(settings["NoNewPrivileges"], "yes");
    let grace = pod["terminationGracePeriodSeconds"].to_string();
    assert_eq!(settings["TimeoutStopSec"], grace);
    let variables = container["env"].as_array().unwrap().iter();
    let of_malloc = variables.filter(|variable| variable["name"].as_str().unwrap().starts_with("MALLOC_"));
    let of_malloc = of_malloc.map(|variable| format!("{}={}", variable["name"], variable["value"]).replace('"', ""));
    let of_malloc = format!("Environment={}\n", of_malloc.collect::<Vec<_>>().join(" "));
    assert!(of_malloc.len() > 40 && unit().contains(&of_malloc), "{of_malloc}");
    // Sockets are not files that are written; the state folder has a word of its own.
    let written: Vec<&str> = settings["ReadWritePaths"].split(' ').collect();
    let writable =
        |mount: &&Value| mount.get("readOnly").is_none() && mount["mountPath"] != "/var/lib/network-operator";
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mounted: Vec<&str> = mounts.iter().filter(writable).map(|mount| mount["mountPath"].as_str().unwrap()).collect();
    assert_eq!(written, mounted);
    assert_eq!(settings["StateDirectory"], "network-operator");
}

#[test]
fn what_the_agent_opens_is_mounted_and_nothing_else() {
    let source = |path: &str| fs::read_to_string(root().join("src").join(path)).unwrap();
    let constant = |path: &str, name: &str| {
        let text = source(path);
        let (_, rest) = text.split_once(&format!("const {name}: &str = \"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let help = Command::new(env!("CARGO_BIN_EXE_network-operator")).args(["run", "--help"]).output().unwrap();
    // It is wrapped.
    let help = String::from_utf8(help.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let folder = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    let default = |path: &str| {
        assert!(help.contains(&format!("[default: {path}]")), "{path}");
        path.to_owned()
    };
    let mut opened = vec![
        folder(&default("/etc/frr/frr.conf")),
        folder(&default("/opt/network-operator/config.yaml")),
        default("/var/lib/network-operator"),
        constant("agent/sources.rs", "RUNTIME_FOLDER"),
        constant("agent/sources.rs", "VTYSH"),
        folder(&constant("bpf/pins.rs", "PINS")),
        // Where zbus looks for the system bus (/var/run is /run).
        "/run/dbus/system_bus_socket".to_owned(),
    ];
    opened.sort();
    let texts = chart(&json!({"onlyAttachBpf": {"enabled": true}}));
    let mounts = |template: &str| {
        let (pod, container) = pod(&texts[template]);
        let mut paths = Vec::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let volume =
                pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            // systemd and FRR name files by the node's paths.
            assert_eq!(volume["hostPath"]["path"], mount["mountPath"]);
            paths.push(mount["mountPath"].as_str().unwrap().to_owned());
        }
        paths.sort();
        paths
    };
    assert_eq!(mounts("daemonset.yaml"), opened);
    assert_eq!(mounts("only-attach-bpf.yaml"), ["/opt/network-operator", "/sys/fs/bpf"]);
}
