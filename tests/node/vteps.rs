//! Two VTEPs that share one router MAC (an anycast pair of leaves), and VXLANs that go while zebra has routes through both.

use std::time::Duration;

use crate::lab::{FROM_MANIFESTS, Fabric, Image, Node, Spelling, lab_file};

const LIMIT: Duration = Duration::from_secs(180);
/// The address of the second leaf's VTEP.
const SECOND: &str = "192.0.2.2";
/// Of both routers.
const MAC: &str = "02:54:c0:00:02:01";

#[test]
fn frr_8_outlives_vxlans_to_two_vteps_of_one_mac() {
    outlives(Image::Bookworm);
}

#[test]
fn frr_10_outlives_vxlans_to_two_vteps_of_one_mac() {
    outlives(Image::Trixie);
}

/// zebra dies where a VXLAN is deleted before the routes through it are gone; watchfrr restarts all daemons then.
fn outlives(image: Image) {
    let fabric = Fabric::boot(image, Spelling::Plain);
    let node = &fabric.node;
    node.give_manifests();
    node.start_agent(FROM_MANIFESTS);
    let applied = node.applied(0, LIMIT);
    are_next_hops(node, &["192.0.2.1"]);
    // zebra 8.4 looks at the VXLAN only where the VTEP goes first that came last, and bgpd takes routes back in the order of their RDs.
    let _second = second_leaf(&fabric, image);
    are_next_hops(node, &["192.0.2.1", SECOND]);
    let mac = node.vtysh(&format!("show evpn rmac vni 100 mac {MAC}"));
    assert!(mac.contains(&format!("Remote VTEP: {SECOND}")), "the one that goes first: {mac}");
    let daemons = node.pid("bgpd zebra");
    node.no_objects();
    node.applied(applied, LIMIT);
    let told = || node.ok("journalctl -u frr -o short-precise --no-pager | tail -n 100");
    assert_eq!(node.pid("bgpd zebra"), daemons, "{}", told());
    let left = "zebra keeps next hops of EVPN";
    assert_eq!(node.says(left), 0, "{left}");
}

/// Another leaf beside the fabric's with the same router MAC, an address of its own, a lower router ID and one prefix that the first does
/// not have.
fn second_leaf(fabric: &Fabric, image: Image) -> Node {
    let other = |text: String| {
        let text = text.replace("router-id 192.0.2.1", "router-id 100.64.0.2");
        let text = text.replace("192.0.2.1", SECOND).replace("198.51.100.2", "198.51.100.3");
        text.replace("bgp 64497", "bgp 64498").replace("203.0.113.16/28", "203.0.113.64/28")
    };
    let conf = other(lab_file("leaf.conf"));
    let leaf = Node::builder("leaf-2", image).nic(&fabric.bridge).file("/etc/frr/frr.conf", conf);
    leaf.boot_script(&other(lab_file("leaf-links.sh"))).boot()
}

/// Waits until zebra has these VTEPs as next hops, all behind one MAC.
fn are_next_hops(node: &Node, vteps: &[&str]) {
    node.wait("next hops", LIMIT, |node| {
        let seen = node.json("vtysh -c 'show evpn next-hops vni all json'");
        let mac = |vtep: &&str| seen["100"][*vtep]["routerMac"] == MAC;
        if vteps.iter().all(mac) { Ok(()) } else { Err(seen.to_string()) }
    });
}
