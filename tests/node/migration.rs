//! A node of the Go operator is taken over and given back, by the shell of docs/migration.md. There is no Go operator
//! here, but what it leaves: see testdata/lab/go-operator.sh and go-operator.conf.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lab::{Bridge, FROM_MANIFESTS, Fabric, Image, Node, Sessions, lab_file, sessions};
use crate::main_job::{PLAN, nothing_is_planned};

const LIMIT: Duration = Duration::from_secs(180);
const CONF: &str = "/etc/frr/frr.conf";
const TEMPLATE: &str = "/etc/frr/frr.conf.tpl";
const CONFIG: &str = "/opt/network-operator/config.yaml";

const LINKS: [&str; 10] =
    ["br.blue", "br.red", "dv.blue", "dv.red", "vd.blue", "vd.red", "vr.blue", "vr.red", "vx.blue", "vx.red"];
/// Those that packets come in by to be routed.
const ROUTED: [&str; 6] = ["br.blue", "br.red", "vd.blue", "vd.red", "vx.blue", "vx.red"];
/// All sessions of the node, with the VRF of each.
const SESSIONS: [(&str, &str); 5] = [
    ("default", "198.51.100.2"),
    ("default", "dv.blue"),
    ("default", "dv.red"),
    ("vr.blue", "vd.blue"),
    ("vr.red", "vd.red"),
];

/// How the eBPF router goes on the way back.
#[derive(Debug, Clone, Copy)]
enum Router {
    /// `bpf: {enabled: false}` in the operator file.
    SwitchedOff,
    /// By hand, with the agent stopped.
    TakenAway,
}

#[test]
fn a_node_of_the_go_operator_on_bookworm_is_taken_over_without_a_reset_and_given_back() {
    there_and_back(Image::Bookworm, Router::SwitchedOff);
}

#[test]
fn a_node_of_the_go_operator_on_trixie_is_taken_over_without_a_reset_and_given_back() {
    there_and_back(Image::Trixie, Router::TakenAway);
}

fn there_and_back(image: Image, router: Router) {
    let fabric = Fabric::around(image, |bridge| of_the_go_operator(bridge, image));
    fabric.assert_claims(LIMIT);
    let (node, before) = (&fabric.node, Before::of(&fabric.node));
    it_is_theirs(node);
    the_plan_harms_nothing(node);
    before.assert_still(node, "after planning");
    assert_eq!(marked(node), BTreeSet::new(), "planning changes nothing");
    what_it_leaves_is_taken_away(node);
    node.start_agent(FROM_MANIFESTS);
    let applied = node.applied(0, LIMIT);
    it_is_ours(&fabric, &before);
    the_router_goes(node, router, applied);
    it_is_given_back(&fabric, &before);
}

/// Boots a node as the Go operator leaves it. FRR has its configuration before there are links, as after a boot.
fn of_the_go_operator(bridge: &Bridge, image: Image) -> Node {
    let node = Node::builder("node-1", image)
        .nic(bridge)
        .file(CONF, lab_file("go-operator.conf"))
        .file(TEMPLATE, lab_file("node.conf"))
        .file(CONFIG, lab_file("config.yaml"))
        .boot_script(&lab_file("node-links.sh"))
        .boot();
    node.wait_for_frr();
    node.give_manifests();
    node.write("/root/go-operator.sh", lab_file("go-operator.sh"));
    node.ok("bash -e /root/go-operator.sh");
    node
}

/// The block of shell in docs/migration.md that begins with this line.
fn documented(first: &str) -> String {
    let lines = include_str!("../../docs/migration.md").lines().skip_while(|line| line.trim() != first);
    let block: Vec<&str> = lines.take_while(|line| line.trim() != "```").collect();
    assert!(block.len() > 1, "docs/migration.md has no block that begins with {first:?}");
    // The first command that fails ends it.
    format!("set -e\n{}", block.join("\n"))
}

/// The VRFs' links by name, with index and MAC address.
fn links(node: &Node) -> BTreeMap<String, (u64, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = node.json("ip -j link");
    let all = all.as_array().unwrap().iter();
    let named = all.map(|link| (text(&link["ifname"]), (link["ifindex"].as_u64().unwrap(), text(&link["address"]))));
    named.filter(|(name, _)| LINKS.contains(&name.as_str())).collect()
}

/// All links with our mark.
fn marked(node: &Node) -> BTreeSet<String> {
    let all = node.json("ip -d -j link");
    let ours = all.as_array().unwrap().iter().filter(|link| link["ifalias"] == "network-operator");
    ours.map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

/// The links with a filter of that name, in the order of their names.
fn filtered(node: &Node, name: &str) -> Vec<String> {
    let shown = node.ok(&format!(
        "for link in $(ls /sys/class/net); do \
         if tc filter show dev $link ingress | grep -q ' {name}'; then echo $link; fi; done"
    ));
    let links: BTreeSet<String> = shown.lines().map(str::to_owned).collect();
    links.into_iter().collect()
}

/// Both families' rules in `raw`.
fn raw_rules(node: &Node) -> String {
    node.ok("iptables-save -t raw; ip6tables-save -t raw")
}

/// The node under the Go operator.
struct Before {
    links: BTreeMap<String, (u64, String)>,
    daemons: String,
    sessions: Sessions,
    template: String,
}

impl Before {
    fn of(node: &Node) -> Self {
        let links = links(node);
        assert_eq!(links.len(), LINKS.len(), "{links:?}");
        let (daemons, sessions) = (node.pid("bgpd zebra"), sessions(node, &SESSIONS));
        Self { links, daemons, sessions, template: node.read(TEMPLATE) }
    }

    /// Links, daemons and sessions are the same ones.
    fn assert_still(&self, node: &Node, when: &str) {
        assert_eq!(links(node), self.links, "links, {when}");
        assert_eq!(node.pid("bgpd zebra"), self.daemons, "bgpd and zebra, {when}: {}", node.last_words());
        self.sessions.assert_not_reset(node, when);
    }
}

/// The script has left what the rest goes by.
fn it_is_theirs(node: &Node) {
    assert_eq!(marked(node), BTreeSet::new());
    assert_eq!(filtered(node, "tc_router"), ROUTED);
    let rules = raw_rules(node);
    assert_eq!((rules.matches("nwop:").count(), rules.matches("dport 4789").count()), (12, 4), "{rules}");
}

/// The lines of the plan below one that is this, up to one that begins with that.
fn part<'a>(plan: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let lines = plan.lines().skip_while(|line| *line != from).skip(1);
    lines.take_while(|line| !line.starts_with(to)).map(str::trim).collect()
}

fn the_plan_harms_nothing(node: &Node) {
    let look = documented("# Look, which changes nothing, and keep what FRR has");
    assert!(look.contains("network-operator plan"), "{look}");
    let plan = node.ok(&look.replace("network-operator plan", PLAN));
    let links: BTreeSet<&str> = part(&plan, "links:", "eBPF router:").into_iter().collect();
    let marks = LINKS.map(|link| format!("change {link} alias network-operator"));
    assert_eq!(links, marks.iter().map(String::as_str).collect::<BTreeSet<_>>(), "{plan}");
    let router = part(&plan, "eBPF router:", "FRR:");
    let attached = ROUTED.map(|link| format!("attach the eBPF router to {link}"));
    assert!(attached.iter().all(|attached| router.contains(&attached.as_str())), "{plan}");
    let lines = part(&plan, "FRR:", "BGP sessions");
    let ours = |line: &&&str| {
        let names = ["ip prefix-list pl_", "ipv6 prefix-list pl_", "route-map rm_", "route-map rm6_"];
        names.iter().any(|name| line.get(2..).is_some_and(|line| line.starts_with(name)))
    };
    let others: Vec<_> = lines.iter().filter(|line| !ours(line)).collect();
    assert!(others.is_empty(), "lines of the site's own: {others:#?}");
    for renamed in [
        "+ ip prefix-list pl_blue_import_10 seq 1 permit 203.0.113.0/28",
        "- ip prefix-list pl_blue_import_0 seq 1 permit 203.0.113.0/28",
    ] {
        assert!(lines.contains(&renamed), "no {renamed:?} in:\n{plan}");
    }
    assert!(plan.contains("\nBGP sessions that end or are reset: none\nfrr.conf:\n"), "{plan}");
}

fn what_it_leaves_is_taken_away(node: &Node) {
    let told = node.ok(&documented("# Take away what the Go operator leaves"));
    assert_eq!(filtered(node, "tc_router"), Vec::<String>::new());
    let rules = raw_rules(node);
    assert!(!rules.contains("nwop:"), "{rules}");
    assert_eq!(told.matches("dport 4789").count(), 4, "what is left to judge is told: {told}");
}

fn it_is_ours(fabric: &Fabric, before: &Before) {
    let node = &fabric.node;
    before.assert_still(node, "once the agent has taken over");
    assert_eq!(marked(node), BTreeSet::from(LINKS.map(str::to_owned)));
    assert_eq!(filtered(node, "network-operator"), ROUTED);
    assert_eq!(node.read(TEMPLATE), before.template);
    assert!(node.reloads() <= 1, "{} reloads\n{}", node.reloads(), node.last_words());
    fabric.assert_claims(LIMIT);
    node.wait("the body of /readyz", LIMIT, |node| {
        let (status, body) = node.asked(9342, "/readyz");
        if body == "verified\n" { Ok(()) } else { Err(format!("{status}: {body}")) }
    });
    nothing_is_planned(node);
    node.ok("/labbin/network-operator counters");
    before.assert_still(node, "with the agent");
}

/// With the agent stopped at the end.
fn the_router_goes(node: &Node, router: Router, applied: usize) {
    match router {
        Router::SwitchedOff => {
            node.ok(&format!("sed -i 's/^bpf: .*/bpf: {{enabled: false}}/' {CONFIG}"));
            node.applied(applied, LIMIT);
            nothing_of_the_router_is_left(node);
            node.stop_agent();
        }
        Router::TakenAway => {
            node.stop_agent();
            assert_eq!(filtered(node, "network-operator"), ROUTED, "the end of the agent takes nothing away");
            node.ok(&documented("# Take away what this agent leaves"));
        }
    }
    nothing_of_the_router_is_left(node);
}

fn nothing_of_the_router_is_left(node: &Node) {
    let pins = "ls -d /sys/fs/bpf/network-operator 2>/dev/null";
    let table = "nft list tables 2>/dev/null | grep network-operator";
    node.wait("filters, pins and table of the router go", LIMIT, |node| {
        let filters = filtered(node, "network-operator");
        let rest = node.ok(&format!("{pins}; {table}; true"));
        if filters.is_empty() && rest.is_empty() { Ok(()) } else { Err(format!("filters on {filters:?}; {rest}")) }
    });
}

fn it_is_given_back(fabric: &Fabric, before: &Before) {
    let node = &fabric.node;
    let given = node.run(&documented("# Give FRR what it had"));
    assert_eq!(given.status, 0, "{}\n{}", given.stderr, node.last_words());
    assert_eq!(node.read(CONF), lab_file("go-operator.conf"));
    let running = node.vtysh("show running-config");
    assert!(running.contains(" pl_blue_import_0 ") && !running.contains("pl_blue_import_10"), "{running}");
    fabric.assert_claims(LIMIT);
    assert_eq!(links(node), before.links, "links, without the agent");
    assert_eq!(node.read(TEMPLATE), before.template);
    nothing_of_the_router_is_left(node);
}
