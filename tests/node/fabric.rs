//! The topology of `containerlab/`, booted here: workloads of two nodes, two leaves, two spines, a border leaf, networks outside.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kube_api::KUBECONFIG;
use super::newcomer::{drain_look_uncordon, is_ready};
use crate::lab::cluster::{Cluster, with_server};
use crate::lab::reach::workload;
use crate::lab::topology::{Booted, FOLDER, MANAGEMENT, Topology};
use crate::lab::{ApiServer, Down, Image, Node};

const LIMIT: Duration = Duration::from_secs(240);
/// From one packet of the traffic to the next.
const GAP: Duration = Duration::from_millis(200);
/// The hold time of the BGP sessions between nodes and leaves (9 s), and half as much again.
const OUTAGE: Duration = Duration::from_millis(13_500);

#[test]
fn everything_that_the_topology_mounts_and_links_is_there() {
    let topology = Topology::read();
    let machines: BTreeSet<_> = topology.machines().map(str::to_owned).collect();
    assert_eq!(machines.iter().filter(|name| topology.is_node(name)).count(), 2);
    for machine in &machines {
        for (here, there) in topology.binds(machine) {
            let built = here.ends_with("target/release/network-operator");
            assert!(built || here.exists(), "{machine}: {} for {there} is not there", here.display());
        }
    }
    let mut ends = BTreeSet::new();
    for end in topology.links().into_iter().flatten() {
        assert!(machines.contains(&end.machine), "{end:?}");
        assert!(ends.insert((end.machine.clone(), end.link.clone())), "{end:?} twice");
    }
}

#[test]
fn the_picture_in_the_docs_is_that_of_the_topology() {
    let (open, close) = ("```mermaid\n", "```\n");
    let docs = std::fs::read_to_string("docs/fabric.md").unwrap();
    let (before, rest) = docs.split_once(open).unwrap();
    let (_, after) = rest.split_once(close).unwrap();
    let now = [before, open, &Topology::read().picture(), close, after].concat();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write("docs/fabric.md", &now).unwrap();
    }
    assert!(docs == now, "docs/fabric.md has another picture; UPDATE_GOLDEN=1 draws it anew");
}

#[test]
fn the_nodes_differ_in_their_addresses_alone() {
    let conf = |number: usize| std::fs::read_to_string(format!("containerlab/node{number}.conf")).unwrap();
    let second = [
        ("Node 1", "Node 2"),
        ("node1", "node2"),
        ("198.51.100.64/28", "198.51.100.80/28"),
        ("198.51.100.128/28", "198.51.100.144/28"),
        ("2001:db8:c1:1::", "2001:db8:c1:2::"),
        ("2001:db8:c2:1::", "2001:db8:c2:2::"),
        ("router-id 198.51.100.1\n", "router-id 198.51.100.2\n"),
        ("192.0.2.129/32", "192.0.2.130/32"),
    ];
    let made = second.iter().fold(conf(1), |text, (first, second)| {
        assert!(text.contains(first), "{first}");
        text.replace(first, second)
    });
    assert_eq!(made, conf(2));
}

#[test]
fn workloads_reach_what_their_vrf_permits_through_a_leaf_that_fails_and_a_node_that_is_drained_and_reboots() {
    let mut fabric = Booted::boot(Image::Trixie);
    let server = ApiServer::at(fabric.bridge(), MANAGEMENT);
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        for (name, node) in &fabric.nodes {
            cluster.node(name, "True").await;
            node.write(KUBECONFIG, server.kubeconfig("agent"));
        }
        server.kubectl(&["apply", "-f", &format!("{FOLDER}/manifests")], "");
        fabric.run_agents("--debounce 1s", &format!("KUBECONFIG={KUBECONFIG}"), LIMIT);
        fabric.assert_claims(LIMIT);
        fabric.nodes.values().for_each(Node::assert_confined_as_shipped);
        a_leaf_fails(&fabric);
        a_node_is_drained_and_reboots(&mut fabric, server);
    });
}

/// Traffic of both families while all links of leaf 1 go down.
fn a_leaf_fails(fabric: &Booted) {
    let node = &fabric.nodes["node1"];
    for (vrf, to) in [("blue", "203.0.113.1"), ("blue6", "2001:db8:1::1"), ("blue", &workload("blue", 2))] {
        node.ok(&traffic(&workload(vrf, 1), to));
    }
    std::thread::sleep(Duration::from_secs(2));
    let links =
        |state: &str| ["eth1", "eth2", "eth3"].map(|link| format!("ip -n leaf1 link set {link} {state}")).join("; ");
    fabric.namespaces.ok(&links("down"));
    fabric.assert_claims(LIMIT);
    for to in ["203.0.113.1", "2001:db8:1::1", &workload("blue", 2)] {
        let lost = longest_gap(node, to);
        assert!(lost < OUTAGE, "{to}: {lost:?}");
    }
    fabric.namespaces.ok(&links("up"));
    let neighbor = "show bgp neighbors 198.51.100.11 json";
    node.wait("leaf 1 is back", LIMIT, |node| {
        let seen = node.json(&format!("vtysh -c '{neighbor}'"))["198.51.100.11"]["bgpState"].clone();
        if seen == "Established" { Ok(()) } else { Err(seen.to_string()) }
    });
    fabric.assert_claims(LIMIT);
}

fn log(to: &str) -> String {
    format!("/run/traffic.{}", to.replace(':', "_"))
}

/// Begins to send packets; `-O` tells of each that has no answer.
fn traffic(from: &str, to: &str) -> String {
    let gap = GAP.as_secs_f32();
    format!("systemd-run -q ip netns exec workload bash -c 'exec ping -n -O -D -i {gap} -I {from} {to} >{}'", log(to))
}

/// Ends the traffic, and gives the longest time without an answer.
fn longest_gap(node: &Node, to: &str) -> Duration {
    let pattern = format!("ping.* {to}$");
    let told = node.ok(&format!("pkill -INT -f '{pattern}'; sleep 1; cat {}", log(to)));
    let answers: Vec<f64> = told
        .lines()
        .filter(|line| line.contains("bytes from"))
        .filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok())
        .collect();
    assert!(answers.len() > 10, "{told}");
    let longest = answers.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    Duration::from_secs_f64(longest)
}

/// By the commands of docs/operations.md; nobody touches the node but for the reboot, and the other node's traffic goes on meanwhile.
fn a_node_is_drained_and_reboots(fabric: &mut Booted, server: &ApiServer) {
    let [drain, look, uncordon] = drain_look_uncordon("node2");
    let folder = tempfile::tempdir().unwrap();
    let done = |command: &str| server.shell(folder.path(), LIMIT, command).unwrap_or_else(|error| panic!("{error}"));
    let unschedulable = || done("kubectl get node node2 -o 'jsonpath={.spec.unschedulable}'");
    let state =
        |node: &Node| (node.agent_pid(), node.ok("ip -o link; ip route show table all; ip -6 route show table all"));
    fabric.nodes["node1"].ok(&traffic(&workload("blue", 1), "203.0.113.1"));
    // That leaf 1 is back, too, may still bring routes.
    let before = fabric.nodes["node2"].wait("its routes stay as they are", LIMIT, |node| {
        let before = state(node);
        std::thread::sleep(Duration::from_secs(5));
        if state(node) == before { Ok(before) } else { Err("they change".to_owned()) }
    });
    done(&drain);
    assert_eq!(unschedulable(), "true");
    assert_eq!(state(&fabric.nodes["node2"]), before);
    fabric.assert_claims(LIMIT);
    fabric.nodes.get_mut("node2").unwrap().reboot(Down::Clean);
    fabric.nodes["node2"].wait_for_frr();
    fabric.assert_claims(LIMIT);
    fabric.nodes["node2"].assert_confined_as_shipped();
    fabric.nodes["node2"].wait("it is told that the node is ready", LIMIT, |node| {
        let (asked, told) = (node.asked(9342, "/readyz").1, done(&look));
        if asked.trim() == "verified" && is_ready(&told) { Ok(()) } else { Err(asked + &told) }
    });
    done(&uncordon);
    assert_eq!(unschedulable(), "");
    let lost = longest_gap(&fabric.nodes["node1"], "203.0.113.1");
    assert!(lost < Duration::from_secs(3), "node 1 lost packets for {lost:?} while node 2 rebooted");
}
