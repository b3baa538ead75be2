//! Configurations that FRR does not run as they are meant: the verdict names the line, and the old one is running again.

use std::time::Duration;

use super::metrics;
use crate::lab::{Bridge, FROM_MANIFESTS, Fabric, Image, Node, Spelling};

const LIMIT: Duration = Duration::from_secs(120);
/// From the verdict until the old configuration is running, by the node's clock.
const AGAIN: f64 = 5.0;
const TEMPLATE: &str = "/etc/frr/frr.conf.tpl";
const DROP_IN: &str = "/run/systemd/system/frr.service.d";
const RELOAD: &str = "/usr/lib/frr/frr-reload.py";

/// What FRR runs, and what it was made of.
fn state(node: &Node) -> String {
    let running = node.vtysh("show running-config");
    // FRR prints the host's name once a reload has been.
    let running: String = running.lines().filter(|line| !line.starts_with("hostname")).collect::<Vec<_>>().join("\n");
    node.ok("md5sum /etc/frr/frr.conf; ls -A /etc/frr; cat /run/frr/bgpd.pid; ip -o link | cut -d: -f2")
        + &running
        + &node.vtysh("show vrf vni")
}

fn settled(image: Image) -> Fabric {
    let fabric = Fabric::boot(image, Spelling::VrfDefault);
    fabric.node.give_manifests();
    fabric.node.start_agent(FROM_MANIFESTS);
    fabric.node.applied(0, LIMIT);
    fabric.wait_sessions(&["blue", "red"]);
    fabric
}

/// The sessions that are up, and how often each came up and went down.
fn sessions(node: &Node) -> String {
    let all = node.json("vtysh -c 'show bgp vrf all neighbors json'");
    let neighbors = all.as_object().unwrap().iter().flat_map(|(vrf, instance)| {
        let neighbors = instance.as_object().into_iter().flatten();
        neighbors.map(move |(name, neighbor)| (vrf, name, neighbor))
    });
    let up = neighbors.filter(|(.., neighbor)| neighbor["bgpState"] == "Established");
    up.map(|(vrf, name, neighbor)| {
        format!(
            "{vrf} {name} {}\n",
            [&neighbor["connectionsEstablished"], &neighbor["connectionsDropped"]].map(ToString::to_string).join(" ")
        )
    })
    .collect()
}

/// Asserts that all is as it was. The next try may have begun where it takes long to look; it comes to the same.
fn is_as(node: &Node, before: &str) {
    node.wait("the old configuration", LIMIT, |node| {
        let now = state(node);
        if now == before { Ok(()) } else { Err(now) }
    });
}

/// Asserts that a template fails with these words, and that nothing has become of it when the agent says so.
fn fails_and_changes_nothing(fabric: &Fabric, template: &str, words: &[&str]) {
    let node = &fabric.node;
    let (good, before, up, reloads) = (node.read(TEMPLATE), state(node), sessions(node), node.reloads());
    assert_eq!(up.lines().count(), 5, "{up}");
    node.write(TEMPLATE, template);
    node.agent_says(words[0], 0, LIMIT);
    is_as(node, &before);
    let log = node.agent_log();
    let line = log.lines().find(|line| line.contains(words[0])).unwrap();
    for word in words.iter().chain(&["Failed: ", "the last good configuration is running again"]) {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    // It is tried again after a while, and fails as quietly.
    node.agent_says("run failed as before", node.says("run failed as before"), LIMIT);
    assert_eq!((sessions(node), node.reloads()), (up, reloads), "{words:?}");
    let recovered = node.says("the run succeeds again");
    node.write(TEMPLATE, good);
    node.agent_says("the run succeeds again", recovered, LIMIT);
    assert_eq!((state(node), node.reloads()), (before, reloads), "{words:?}");
}

fn what_frr_does_not_take_is_named_and_undone(fabric: &Fabric) {
    let template = fabric.node.read(TEMPLATE);
    let behind = |line: &str, more: &str| template.replacen(line, &format!("{line}\n{more}"), 1);
    // It passes `vtysh -C`, as does what stands around it and is taken.
    let late = behind(
        " neighbor 198.51.100.3 timers connect 1",
        " neighbor 198.51.100.8 remote-as 64499\n neighbor 198.51.100.9 peer-group NOPE\n neighbor 198.51.100.9 password s3cret",
    );
    let words = [
        "`router bgp 64510 / neighbor 198.51.100.9 peer-group NOPE`: % Configure the peer-group first",
        "`router bgp 64510 / neighbor 198.51.100.9 password <hidden>`: ",
    ];
    fails_and_changes_nothing(fabric, &late, &words);
    assert_eq!(fabric.node.says("s3cret"), 0, "a secret in the log");
    // Policy is given in transactions, and FRR tells of none that it refused on the way.
    let mut lists: String = (1..60).map(|n| format!("ip prefix-list SITE seq {n} permit 10.{n}.0.0/16\n")).collect();
    lists += "ip prefix-list SITE seq 60 permit 10.60.0.0/16 le 8\n";
    let long = template.replacen("\nroute-map ", &format!("\n{lists}route-map "), 1);
    fails_and_changes_nothing(fabric, &long, &["`ip prefix-list SITE seq 60 permit 10.60.0.0/16 le 8`: "]);
    // A VNI that another VRF has. FRR's own reload leaves one of the two without, and says that all is well.
    let twice = behind("vrf vr-mine", " vni 101");
    fails_and_changes_nothing(fabric, &twice, &["`vrf vr-mine / vni 101`: ", "101 is already"]);
}

#[test]
fn what_frr_8_does_not_take_is_named_and_undone() {
    what_frr_does_not_take_is_named_and_undone(&settled(Image::Bookworm));
}

#[test]
fn what_frr_10_does_not_take_is_named_and_undone() {
    let fabric = settled(Image::Trixie);
    what_frr_does_not_take_is_named_and_undone(&fabric);
    a_lock_is_waited_for(&fabric.node);
}

/// What `vtysh -f` does while it reads a file: nobody else can give mgmtd a line.
const LOCK: &str = r#"
import socket, time
mgmtd = socket.socket(socket.AF_UNIX)
mgmtd.connect("/run/frr/mgmtd.vty")
for command in ["enable", "configure terminal file-lock"]:
    mgmtd.send(command.encode() + b"\0")
    assert mgmtd.recv(1000)[-1] == 0
print("locked", flush=True)
time.sleep(600)
"#;

fn a_lock_is_waited_for(node: &Node) {
    let (applied, failed) = (node.says(" applied "), node.says("Failed: "));
    node.write("/root/lock.py", LOCK);
    node.ok("systemd-run --unit lock -p StandardOutput=file:/run/locked python3 /root/lock.py");
    node.wait("the lock", LIMIT, |node| {
        let told = node.run("grep locked /run/locked || { systemctl status lock; false; }");
        if told.status == 0 { Ok(()) } else { Err(told.stdout) }
    });
    let refusals = "journalctl -u frr -o cat --no-pager | grep -c 'Locking for DS 2 failed' || true";
    let before = node.ok(refusals);
    let template = node.read(TEMPLATE);
    let in_block = template.replacen("vrf vr-mine\n", "vrf vr-mine\n ip route 198.51.100.251/32 blackhole\n", 1);
    node.write(TEMPLATE, format!("ip route 198.51.100.250/32 blackhole\n{in_block}"));
    node.wait("a line that meets the lock", LIMIT, |node| {
        if node.ok(refusals) == before { Err(before.clone()) } else { Ok(()) }
    });
    node.ok("systemctl stop lock");
    node.applied(applied, LIMIT);
    let running = node.vtysh("show running-config");
    for line in ["\nip route 198.51.100.250/32 blackhole\n", "\n ip route 198.51.100.251/32 blackhole\n"] {
        assert!(running.contains(line), "no {line:?} in\n{running}");
    }
    assert_eq!(node.says("Failed: "), failed, "{}", node.agent_log());
}

struct Rig {
    node: Node,
    /// Removed behind the node.
    _bridge: Bridge,
}

/// A node whose reload does something else besides.
fn with_reload(image: Image, script: &str) -> Rig {
    let bridge = Bridge::new();
    let node = Node::of_the_lab(&bridge, image, Spelling::Plain);
    node.give_manifests();
    node.start_agent(FROM_MANIFESTS);
    node.applied(0, LIMIT);
    spoil_reload(&node, script);
    Rig { node, _bridge: bridge }
}

fn spoil_reload(node: &Node, script: &str) {
    node.ok(&format!("mv {RELOAD} {RELOAD}.real"));
    node.write(RELOAD, format!("#!/bin/sh\n{RELOAD}.real \"$@\"\n{script}\n"));
    node.ok(&format!("chmod 755 {RELOAD}"));
}

fn mend_reload(node: &Node) {
    node.ok(&format!("mv {RELOAD}.real {RELOAD}"));
}

const CHANGE: &str = "sed -i 's/203.0.113.48\\/28, action: deny/203.0.113.48\\/28, action: permit/' /etc/network-operator/manifests/red.yaml";

/// Seconds between two lines of the agent's log, by the node's clock.
fn seconds_between(node: &Node, first: &str, second: &str) -> f64 {
    let log = node.ok("journalctl -u network-operator -o short-unix --no-pager");
    let at = |words: &str| -> f64 {
        let line = log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words:?} in\n{log}"));
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    at(second) - at(first)
}

/// The job says `done`, and one line of the new configuration is not there.
fn a_reload_that_loses_a_line_is_rolled_back(image: Image) {
    let lost = "no ip prefix-list pl_red_import_10 seq 1 permit 203.0.113.48/28";
    let rig = with_reload(image, &format!("vtysh -c 'configure terminal' -c '{lost}'; exit 0"));
    let before = state(&rig.node);
    rig.node.ok(CHANGE);
    let named = "missing: `ip prefix-list pl_red_import_10 seq 1 permit 203.0.113.48/28`; the last good configuration is running again";
    rig.node.agent_says(named, 0, LIMIT);
    is_as(&rig.node, &before);
    let took = seconds_between(&rig.node, "FRR does not run the new configuration", named);
    assert!(took < AGAIN, "{took}");
    // The reload is itself again, and what failed is tried again.
    mend_reload(&rig.node);
    rig.node.applied(1, LIMIT);
    assert!(rig.node.vtysh("show running-config").contains("seq 1 permit 203.0.113.48/28"));
}

#[test]
fn a_reload_of_frr_8_that_loses_a_line_is_rolled_back() {
    a_reload_that_loses_a_line_is_rolled_back(Image::Bookworm);
}

#[test]
fn a_reload_of_frr_10_that_loses_a_line_is_rolled_back() {
    a_reload_that_loses_a_line_is_rolled_back(Image::Trixie);
}

/// What a failed reload does on Debian 12: systemd stops the unit.
#[test]
fn an_frr_that_its_reload_has_stopped_is_started_with_the_old_configuration() {
    let rig = with_reload(Image::Bookworm, "exit 1");
    let conf = rig.node.ok("md5sum /etc/frr/frr.conf");
    rig.node.ok(CHANGE);
    rig.node.agent_says("the last good configuration is running again", 0, LIMIT);
    // More often than the unit's StartLimitBurst=3 within StartLimitInterval=3m has it.
    rig.node.agent_says("starting it with the last good configuration", 3, 3 * LIMIT);
    rig.node.wait_for_frr();
    assert_eq!(rig.node.ok("md5sum /etc/frr/frr.conf"), conf);
    assert_eq!(rig.node.ok("systemctl is-active frr").trim(), "active");
    mend_reload(&rig.node);
    rig.node.applied(1, LIMIT);
    assert_eq!(rig.node.ok("systemctl is-active frr").trim(), "active");
}

/// The first configuration has none before it, and where FRR cannot be started there is no way back.
#[test]
fn rollbacks_that_have_nothing_to_go_back_to_and_that_fail_are_told_and_counted() {
    let bridge = Bridge::new();
    let node = Node::of_the_lab(&bridge, Image::Bookworm, Spelling::Plain);
    node.give_manifests();
    node.ok("mv /etc/frr/frr.conf /etc/frr/frr.conf.tpl");
    let lost = "no ip prefix-list pl_red_import_10 seq 1 deny 203.0.113.48/28";
    spoil_reload(&node, &format!("vtysh -c 'configure terminal' -c '{lost}'; exit 0"));
    node.start_agent(FROM_MANIFESTS);
    node.agent_says("there is no other configuration to go back to", 0, LIMIT);
    metrics::wait(&node, "rollbacks_total{result=\"nothing\"}", |count| count >= 1.0);
    mend_reload(&node);
    node.applied(0, LIMIT);
    let forbid = format!(
        "mkdir {DROP_IN}; printf '[Service]\\nExecStartPre=false\\n' >{DROP_IN}/no.conf; systemctl daemon-reload"
    );
    spoil_reload(&node, &format!("{forbid}; exit 1"));
    node.ok(CHANGE);
    node.agent_says("could not be restored: start FRR: ", 0, LIMIT);
    metrics::wait(&node, "rollbacks_total{result=\"failed\"}", |count| count >= 1.0);
    mend_reload(&node);
    node.ok(&format!("rm -r {DROP_IN}; systemctl daemon-reload; systemctl reset-failed frr"));
    node.applied(1, LIMIT);
    assert_eq!(node.ok("systemctl is-active frr").trim(), "active");
}
