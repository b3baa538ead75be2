//! What is wrong with a node, one test each: the error names it and its cure, and the node stays as it was.

use std::time::Duration;

use crate::lab::{Bridge, FROM_MANIFESTS, Image, MANIFESTS, Node, Spelling};

const LIMIT: Duration = Duration::from_secs(120);

struct Rig {
    node: Node,
    /// Removed behind the node.
    _bridge: Bridge,
    before: String,
}

/// All that the agent could have touched.
fn state(node: &Node) -> String {
    let links = node.ok("ip -o link | cut -d: -f2,3 | grep -E ' (vr|br|vx|vd|dv)\\.' || true");
    node.ok("md5sum /etc/frr/frr.conf; stat -c '%i %U %G %a' /etc/frr/frr.conf") + &links + &node.reloads().to_string()
}

impl Rig {
    fn boot(image: Image) -> Self {
        let bridge = Bridge::new();
        let node = Node::of_the_lab(&bridge, image, Spelling::Plain);
        node.give_manifests();
        let before = state(&node);
        Self { node, _bridge: bridge, before }
    }

    /// The agent says all words in one line, and has touched nothing.
    fn fails_and_touches_nothing(&self, options: &str, words: &[&str]) {
        self.node.start_agent_with(FROM_MANIFESTS, options);
        self.says_and_touches_nothing(words);
    }

    fn says_and_touches_nothing(&self, words: &[&str]) {
        self.node.wait(&format!("{words:?}"), LIMIT, |node| {
            let log = node.agent_log();
            let said = log.lines().any(|line| line.contains("ERROR") && words.iter().all(|word| line.contains(word)));
            if said { Ok(()) } else { Err(log) }
        });
        assert_eq!(state(&self.node), self.before);
    }

    /// Once the fault is mended, the agent gets there by itself.
    fn recovers(&self) {
        self.node.applied(0, LIMIT);
        self.node.agent_says("the run succeeds again", 0, LIMIT);
        self.up();
    }

    fn reload_under_way(&self) {
        self.node.wait("a reload under way", LIMIT, |node| {
            let state = node.ok("systemctl show -p SubState --value frr");
            if state.trim() == "reload" { Ok(()) } else { Err(state) }
        });
    }

    /// Both VRFs of the lab are.
    fn up(&self) {
        let vnis = self.node.json("vtysh -c 'show vrf vni json'");
        let up = |vrf: &serde_json::Value| vrf["state"] == "Up";
        assert!(vnis["vrfs"].as_array().is_some_and(|vrfs| vrfs.len() == 2 && vrfs.iter().all(up)), "{vnis}");
    }
}

#[test]
fn an_underlay_that_is_missing_or_ambiguous_is_named_until_it_is_right() {
    let rig = Rig::boot(Image::Trixie);
    rig.node.ok("ip link set dum.underlay down && ip link set dum.underlay name elsewhere up");
    rig.fails_and_touches_nothing("", &["underlay interface dum.underlay is not there", "underlayInterface"]);
    rig.node.ok("ip link set elsewhere down && ip link set elsewhere name dum.underlay up");
    rig.node.ok("ip addr add 192.0.2.130/32 dev dum.underlay");
    rig.says_and_touches_nothing(&["192.0.2.129 and 192.0.2.130", "exactly one IPv4 address"]);
    rig.node.ok("ip addr flush dev dum.underlay scope global");
    rig.says_and_touches_nothing(&["no IPv4 address", "exactly one IPv4 address"]);
    rig.node.ok("ip addr add 192.0.2.129/32 dev dum.underlay");
    rig.recovers();
}

#[test]
fn without_cap_net_admin_nothing_is_touched() {
    let rig = Rig::boot(Image::Trixie);
    rig.fails_and_touches_nothing("-p CapabilityBoundingSet=~CAP_NET_ADMIN", &["CAP_NET_ADMIN", "nothing was changed"]);
}

#[test]
fn without_d_bus_nothing_is_touched() {
    let rig = Rig::boot(Image::Trixie);
    let nowhere = "-E DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere";
    rig.fails_and_touches_nothing(nowhere, &["connect to the system bus", "/run/dbus/system_bus_socket"]);
}

#[test]
fn without_frr_service_nothing_is_touched() {
    let rig = Rig::boot(Image::Bookworm);
    // Without the init script, too: systemd makes a unit of it.
    rig.node.ok("mv /lib/systemd/system/frr.service /etc/init.d/frr /srv && systemctl daemon-reload");
    rig.fails_and_touches_nothing("", &["there is no frr.service", "install FRR"]);
    rig.node.ok("mv /srv/frr.service /lib/systemd/system && systemctl daemon-reload");
    rig.recovers();
}

#[test]
fn a_masked_frr_service_is_named_and_nothing_is_touched() {
    let rig = Rig::boot(Image::Trixie);
    rig.node.ok("systemctl mask --runtime frr.service");
    rig.fails_and_touches_nothing("", &["frr.service is masked", "systemctl unmask frr.service"]);
    rig.node.ok("systemctl unmask --runtime frr.service");
    rig.recovers();
}

/// frr.conf is written all the same: what FRR starts with next may be what lets it start.
#[test]
fn an_frr_service_that_does_not_run_is_named_and_starts_with_the_new_configuration() {
    let rig = Rig::boot(Image::Bookworm);
    rig.node.ok("systemctl stop frr");
    rig.node.start_agent(FROM_MANIFESTS);
    rig.node.agent_says("frr.service does not run", 0, LIMIT);
    assert!(rig.node.read("/etc/frr/frr.conf").contains("router bgp 64510 vrf vr.blue"));
    rig.node.ok("systemctl start frr");
    rig.recovers();
}

#[test]
fn a_template_with_a_fault_leaves_frr_conf_until_it_is_mended() {
    let rig = Rig::boot(Image::Trixie);
    let good = rig.node.read("/etc/frr/frr.conf");
    let template = |text: &str| rig.node.write("/etc/frr/frr.conf.tpl", text);
    template(&good.replace("#++{{.RouteMaps}}\n", ""));
    rig.fails_and_touches_nothing("", &["the template has no hint {{.RouteMaps}}", "near the end"]);
    template(&good.replace("#++{{.BGP}}\n", "#++{{.BGP}}\n#++{{.BGP}}\n"));
    rig.says_and_touches_nothing(&["hint {{.BGP}} stands already on line"]);
    template(&good.replace("#++{{.BGP}}\n", "#++{{.BGP}}\n#++{{.BgP}}\n"));
    rig.says_and_touches_nothing(&["unknown hint {{.BgP}}"]);
    template(&good);
    rig.recovers();
}

#[test]
fn a_line_that_frr_8_refuses_never_becomes_frr_conf() {
    a_line_that_frr_refuses(Image::Bookworm);
}

#[test]
fn a_line_that_frr_10_refuses_never_becomes_frr_conf() {
    a_line_that_frr_refuses(Image::Trixie);
}

fn a_line_that_frr_refuses(image: Image) {
    let rig = Rig::boot(image);
    let good = rig.node.read("/etc/frr/frr.conf");
    rig.node
        .write("/etc/frr/frr.conf.tpl", good.replace(" bgp router-id 198.51.100.1\n", " bgp ruoter-id 198.51.100.1\n"));
    rig.fails_and_touches_nothing("", &["frr.conf stays as it is", "`bgp ruoter-id 198.51.100.1`: Unknown command"]);
    assert_eq!(rig.node.ok("ls -A /etc/frr | grep -E 'staged|check' || true"), "");
    rig.node.write("/etc/frr/frr.conf.tpl", good);
    rig.recovers();
}

#[test]
fn bad_objects_and_vrfs_are_named_and_the_good_ones_apply() {
    let rig = Rig::boot(Image::Bookworm);
    rig.node.ok("sed -i 's/^  red: 101/&\\n  zero: 0\\n  twin1: 7\\n  twin2: 7/' /opt/network-operator/config.yaml");
    let item = |item: &str| format!("import: [{item}], export: []");
    let bad = [
        ("odd-name", "spec.vrf", "vrf: 'b ad', seq: 9, import: [], export: []".to_owned()),
        ("zero-vni", "spec.vrf", "vrf: zero, seq: 9, import: [], export: []".to_owned()),
        ("twin-vni", "spec.vrf", "vrf: twin1, seq: 9, import: [], export: []".to_owned()),
        (
            "command",
            "spec.community",
            "vrf: red, seq: 9, import: [], export: [], community: \"1:1\\nrouter bgp 1\"".to_owned(),
        ),
        (
            "host-bits",
            "spec.import[0].cidr",
            format!("vrf: red, seq: 9, {}", item("{cidr: 10.0.0.1/8, action: permit}")),
        ),
        (
            "long-ge",
            "spec.import[0].ge",
            format!("vrf: red, seq: 9, {}", item("{cidr: 10.0.0.0/8, ge: 33, action: permit}")),
        ),
        ("same-seq", "spec.seq", "vrf: red, seq: 10, import: [], export: []".to_owned()),
        ("no-export", "spec", "vrf: red, seq: 9, import: []".to_owned()),
    ];
    let text: String = bad.iter().map(|(name, _, spec)| format!("---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")).collect();
    // Behind the good ones: between two objects without a creation time the name decides.
    rig.node.write(&format!("{MANIFESTS}/zz-bad.yaml"), text.replace("same-seq", "z-same-seq"));
    rig.node.start_agent(FROM_MANIFESTS);
    rig.node.applied(0, LIMIT);
    let log = rig.node.agent_log();
    for (name, field, _) in &bad {
        let words = [format!("{name} "), format!("field={field}"), "cure=".to_owned()];
        assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "no {words:?} in\n{log}");
    }
    let vnis = rig.node.json("vtysh -c 'show vrf vni json'");
    assert_eq!(vnis["vrfs"].as_array().unwrap().len(), 2, "{vnis}");
    assert_eq!(rig.node.ok("systemctl is-active frr").trim(), "active");
}

#[test]
fn a_reload_that_takes_too_long_is_told_and_what_frr_runs_counts() {
    let rig = Rig::boot(Image::Trixie);
    rig.node.start_agent(&format!("{FROM_MANIFESTS} --reload-limit 1s --log-format json"));
    rig.node.agent_says("the reload of frr.service did not end within 1s", 0, LIMIT);
    rig.node.agent_says("\"applied\"", 0, LIMIT);
    rig.up();
    let lines = rig.node.ok("journalctl -u network-operator -o cat --no-pager _SYSTEMD_UNIT=network-operator.service");
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["message"].is_string(), "{line}");
        let _: jiff::Timestamp = entry["timestamp"].as_str().unwrap_or_default().parse().expect(line);
    }
}

#[test]
fn a_vni_that_belongs_to_somebody_else_is_left_to_them_and_taken_when_they_go() {
    let rig = Rig::boot(Image::Trixie);
    rig.node.ok("ip link add site type vxlan id 101 local 192.0.2.129 dev dum.underlay dstport 4789");
    rig.node.start_agent(FROM_MANIFESTS);
    rig.node.agent_says("the link site, which is not ours, has VNI 101 already", 0, LIMIT);
    rig.node.applied(0, LIMIT);
    let conf = rig.node.read("/etc/frr/frr.conf");
    assert!(
        !conf.contains("vni 101") && conf.contains(" vni 100\n") && conf.contains("route-map rm_red_export"),
        "{conf}"
    );
    rig.node.ok("ip link del site");
    rig.node.applied(1, LIMIT);
    rig.up();
}

#[test]
fn a_kill_in_the_middle_of_a_reload_is_made_good_by_the_next_start() {
    let rig = Rig::boot(Image::Bookworm);
    rig.node.start_agent(FROM_MANIFESTS);
    rig.reload_under_way();
    rig.node.ok("systemctl kill -s KILL network-operator");
    rig.node.wait("the agent is dead", LIMIT, |node| {
        let state = node.run("systemctl is-active network-operator").stdout;
        if state.trim() == "active" { Err(state) } else { Ok(()) }
    });
    rig.node.start_agent(FROM_MANIFESTS);
    rig.node.applied(0, LIMIT);
    assert_eq!(rig.node.reloads(), 1, "FRR is seen to run what was meant");
    rig.up();
}

#[test]
fn a_stop_in_the_middle_of_a_run_finishes_it_and_changes_nothing_behind_it() {
    let rig = Rig::boot(Image::Trixie);
    // The reload has to end within what the agent has for its end.
    rig.node.comes_first();
    rig.node.start_agent(FROM_MANIFESTS);
    rig.reload_under_way();
    rig.node.stop_agent();
    let log = rig.node.agent_log();
    let position = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{log}"));
    assert!(position(" applied ") < position("network-operator ends; the node stays as it is"));
    let unit = rig.node.ok("journalctl -u network-operator -o cat --no-pager _PID=1");
    assert!(!unit.contains("Failed with result") && !unit.contains("SIGKILL"), "{unit}");
    let after = state(&rig.node);
    rig.node.start_agent(FROM_MANIFESTS);
    rig.node.agent_says("nothing to do", 0, LIMIT);
    rig.node.stop_agent();
    assert_eq!(state(&rig.node), after);
}
