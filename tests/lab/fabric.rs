//! The small fabric: one node, one leaf with two VRFs, a bridge between them.

use std::time::Duration;

use super::{Bridge, Image, Node};

/// How a template names its default BGP instance; both stand in users' templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `router bgp N`.
    Plain,
    /// `router bgp N vrf default`.
    VrfDefault,
}

/// The fabric, booted.
pub struct Fabric {
    pub node: Node,
    pub leaf: Node,
    pub bridge: Bridge,
}

pub const MANIFESTS: &str = "/etc/network-operator/manifests";
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/lab");

/// A file of `testdata/lab`.
pub fn lab_file(name: &str) -> String {
    std::fs::read_to_string(format!("{LAB}/{name}")).unwrap()
}

impl Fabric {
    /// Boots both machines and waits for FRR on the node.
    pub fn boot(image: Image, spelling: Spelling) -> Self {
        let bridge = Bridge::new();
        let mut conf = lab_file("node.conf");
        if spelling == Spelling::VrfDefault {
            conf = conf.replace("\nrouter bgp 64510\n", "\nrouter bgp 64510 vrf default\n");
        }
        let (node, leaf) = std::thread::scope(|scope| {
            let leaf = scope.spawn(|| {
                let leaf = Node::builder("leaf", image).nic(&bridge).file("/etc/frr/frr.conf", lab_file("leaf.conf"));
                leaf.boot_script(&lab_file("leaf-links.sh")).boot()
            });
            let node = Node::builder("node-1", image)
                .nic(&bridge)
                .file("/etc/frr/frr.conf", conf)
                .file("/opt/network-operator/config.yaml", lab_file("config.yaml"))
                .boot_script(&lab_file("node-links.sh"))
                .boot();
            node.wait_for_frr();
            node.ok(&format!("mkdir -p {MANIFESTS}"));
            (node, leaf.join().unwrap())
        });
        Self { node, leaf, bridge }
    }

    /// Puts the lab's objects into the node's folder.
    pub fn give_manifests(&self) {
        for name in ["blue.yaml", "red.yaml", "mgmt.yaml"] {
            self.node.write(&format!("{MANIFESTS}/{name}"), lab_file(&format!("manifests/{name}")));
        }
    }

    /// Waits for the BGP sessions of a VRF's veth pair, both ends.
    pub fn wait_sessions(&self, vrf: &str) {
        self.node.wait(&format!("sessions of {vrf}"), Duration::from_secs(60), |node| {
            for (instance, neighbor) in
                [("default".to_owned(), format!("dv.{vrf}")), (format!("vr.{vrf}"), format!("vd.{vrf}"))]
            {
                let peers = node.json(&format!("vtysh -c 'show bgp vrf {instance} neighbors {neighbor} json'"));
                let state = peers[&neighbor]["bgpState"].clone();
                if state != "Established" {
                    return Err(format!("{neighbor} in {instance}: {state}"));
                }
            }
            Ok(())
        });
    }
}
