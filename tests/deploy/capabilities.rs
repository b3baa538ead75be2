//! The agents do their work with the capabilities of their containers, and not without any of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use serde_json::json;

use crate::lab::unique;
use crate::rendered::{capabilities, chart, pod};

/// Users of FRR that this machine does not have.
const FRR: (u32, u32) = (51_234, 51_235);
const TEMPLATE: &str = "#++{{.VRFs}}\nrouter bgp 1\n#++{{.Neighbors}}\n address-family ipv4 unicast\n#++{{.NeighborsV4}}\n exit-address-family\nexit\n#++{{.BGP}}\n#++{{.PrefixLists}}\n#++{{.RouteMaps}}\n";
/// Tenths of a second that the agent may take for its work.
const LIMIT: u32 = 600;
/// As many for what does not come, once it has said that something fails.
const FAILS: u32 = 20;

/// An agent in a network namespace and with a bpffs of its own, and a folder in the place of /etc/frr.
struct Agent {
    folder: tempfile::TempDir,
    flags: &'static [&'static str],
}

impl Agent {
    fn new(flags: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["frr", "manifests"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("manifests/none.yaml"), "{kind: List, apiVersion: v1, items: []}").unwrap();
        fs::write(path("config.yaml"), "bpfInterfaces: [port]\n").unwrap();
        // As on Debian 12.
        fs::write(path("frr/frr.conf"), TEMPLATE).unwrap();
        fs::set_permissions(path("frr/frr.conf"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(path("frr"), fs::Permissions::from_mode(0o750)).unwrap();
        for name in ["frr/frr.conf", "frr"] {
            chown(path(name), Some(FRR.0), Some(FRR.1)).unwrap();
        }
        Self { folder, flags }
    }

    /// What it says until it says `last`, or all that it says within a few seconds where it never does.
    fn run(&self, capabilities: &[String], last: &str) -> String {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let kept: String = capabilities.iter().map(|name| format!(",+{}", name.to_lowercase())).collect();
        let log = path(&unique("log"));
        let flags = self.flags.join(" ").replace("FOLDER", &path(""));
        let script = format!(
            "ip link set lo up
             ip link add port type veth peer name cable
             ip link set port up
             ip link set cable up
             mount -t bpf bpf /sys/fs/bpf
             setpriv --no-new-privs --inh-caps=-all --bounding-set=-all{kept} {program} run {flags} --debounce 0s --listen none \
               --config {config} --node-name node-1 >{log} 2>&1 &
             agent=$!
             tries=0
             until grep -q '{last}' {log} || [ $tries -gt {LIMIT} ]; do
               if grep -q 'it is tried again' {log} && [ $tries -gt {FAILS} ]; then break; fi
               kill -0 $agent 2>/dev/null || break
               tries=$((tries + 1)); sleep 0.1
             done
             kill $agent 2>/dev/null || true
             wait $agent || true",
            program = env!("CARGO_BIN_EXE_network-operator"),
            config = path("config.yaml"),
        );
        let output = Command::new("unshare").args(["--net", "--mount", "sh", "-ec", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(log).unwrap()
    }
}

fn kept(template: &str) -> Vec<String> {
    let (_, container) = pod(&chart(&json!({"onlyAttachBpf": {"enabled": true}}))[template]);
    capabilities(&container)
}

fn all_but(kept: &[String], name: &str) -> Vec<String> {
    kept.iter().filter(|kept| *kept != name).cloned().collect()
}

#[test]
fn the_agent_of_the_router_needs_each_of_its_capabilities_and_no_other() {
    const DONE: &str = "all checks of this node pass";
    let kept = kept("only-attach-bpf.yaml");
    let run = |capabilities: &[String]| Agent::new(&["--only-attach-bpf"]).run(capabilities, DONE);
    let said = run(&kept);
    assert!(said.contains(DONE) && said.contains("attach the eBPF router to port"), "{said}");
    for name in &kept {
        let said = run(&all_but(&kept, name));
        assert!(!said.contains(DONE) && said.contains("the eBPF router is not all there"), "without {name}: {said}");
    }
}

#[test]
fn the_agent_needs_each_of_its_capabilities_and_no_other() {
    const DONE: &str = "attach the eBPF router to port";
    let kept = kept("daemonset.yaml");
    let flags = &["--manifests FOLDER/manifests --state-dir FOLDER/state --frr-config FOLDER/frr/frr.conf"];
    // The template is made with owner and mode of frr.conf, as each new frr.conf is.
    let run = |capabilities: &[String]| {
        let agent = Agent::new(flags);
        let said = agent.run(capabilities, DONE);
        let made = fs::metadata(agent.folder.path().join("frr/frr.conf.tpl"));
        let made = made.is_ok_and(|made| (made.uid(), made.gid(), made.mode() & 0o777) == (FRR.0, FRR.1, 0o640));
        (made && said.contains(DONE), said)
    };
    let (done, said) = run(&kept);
    assert!(done, "{said}");
    for name in &kept {
        let (done, said) = run(&all_but(&kept, name));
        assert!(!done, "without {name}: {said}");
    }
}
