//! The files of `containerlab/`, booted here: two leaves, a route injector behind both, the lab's node in front.

use std::path::Path;
use std::time::Duration;

use crate::lab::{Bridge, FROM_MANIFESTS, Fabric, Image, Node, Spelling};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/containerlab");

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{FOLDER}/{name}")).unwrap()
}

fn topology() -> Value {
    serde_saphyr::from_str(&file("network-operator.clab.yml")).unwrap()
}

/// What containerlab mounts at a path of a machine.
fn bound(machine: &str, path: &str) -> String {
    let topology = topology();
    let binds = topology["topology"]["nodes"][machine]["binds"].as_array().unwrap();
    let bind = binds.iter().filter_map(Value::as_str).find(|bind| bind.split(':').nth(1) == Some(path));
    file(bind.unwrap_or_else(|| panic!("{machine} has nothing at {path}")).split(':').next().unwrap())
}

#[test]
fn everything_that_the_topology_mounts_is_in_the_tree() {
    let topology = topology();
    let mut seen = 0;
    for (machine, node) in topology["topology"]["nodes"].as_object().unwrap() {
        for bind in node["binds"].as_array().into_iter().flatten() {
            let path = Path::new(FOLDER).join(bind.as_str().unwrap().split(':').next().unwrap());
            let built = path.ends_with("target/release/network-operator");
            assert!(built || path.exists(), "{machine}: {} is not there", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 11, "{seen}");
    assert_eq!(bound("node", "/etc/frr/frr.conf.boot"), crate::lab::lab_file("node.conf"));
    assert_eq!(bound("node", "/opt/network-operator/config.yaml"), crate::lab::lab_file("config.yaml"));
}

fn machine(name: &str, number: &str, bridge: &Bridge, segments: &[&str]) -> Node {
    let links = format!("set -- {number}\n{}", bound(name, "/lab/links.sh"));
    let builder = Node::builder(name, Image::Trixie)
        .file("/etc/frr/frr.conf", bound(name, "/etc/frr/frr.conf.boot"))
        .boot_script(&links);
    segments.iter().fold(builder, |builder, segment| builder.nic_on(bridge, segment)).boot()
}

#[test]
fn routes_of_the_injector_leak_as_permitted_and_survive_a_leaf() {
    let bridge = Bridge::new();
    let links = ["blue1", "red1", "blue2", "red2"];
    links.iter().for_each(|segment| bridge.segment(segment));
    let (node, leaf1, leaf2, injector) = std::thread::scope(|scope| {
        let leaf1 = scope.spawn(|| machine("leaf1", "1", &bridge, &["br0", "blue1", "red1"]));
        let leaf2 = scope.spawn(|| machine("leaf2", "2", &bridge, &["br0", "blue2", "red2"]));
        let injector = scope.spawn(|| machine("injector", "", &bridge, &links));
        let node = Node::of_the_lab(&bridge, Image::Trixie, Spelling::Plain);
        (node, leaf1.join().unwrap(), leaf2.join().unwrap(), injector.join().unwrap())
    });
    node.give_manifests();
    node.start_agent(FROM_MANIFESTS);
    node.applied(0, LIMIT);
    let fabric = Fabric { node, leaf: leaf1, bridge };
    fabric.assert_claims(LIMIT);
    // The injector learns through the leaves what the cluster exports into blue.
    injector.wait("the cluster's route", LIMIT, |injector| {
        let routes = injector.ok("ip route show proto bgp");
        if routes.contains("198.51.100.64/26") { Ok(()) } else { Err(routes) }
    });
    fabric.leaf.ok("systemctl stop frr");
    Fabric { leaf: leaf2, ..fabric }.assert_claims(LIMIT);
}
