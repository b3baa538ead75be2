//! The small fabric: one node, one leaf with two VRFs, a bridge between them.

use super::node::Builder;
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
/// The files of `testdata/lab/manifests`.
pub const LAB_MANIFESTS: [&str; 3] = ["blue.yaml", "red.yaml", "mgmt.yaml"];
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/lab");

/// A file of `testdata/lab`.
pub fn lab_file(name: &str) -> String {
    std::fs::read_to_string(format!("{LAB}/{name}")).unwrap()
}

impl Fabric {
    /// Boots both machines and waits for FRR on the node.
    pub fn boot(image: Image, spelling: Spelling) -> Self {
        Self::around(image, |bridge| Node::of_the_lab(bridge, image, spelling))
    }

    /// Boots the leaf beside a node that `boot` boots.
    pub fn around(image: Image, boot: impl FnOnce(&Bridge) -> Node) -> Self {
        let bridge = Bridge::new();
        let (node, leaf) = std::thread::scope(|scope| {
            let leaf = scope.spawn(|| {
                let leaf = Node::builder("leaf", image).nic(&bridge).file("/etc/frr/frr.conf", lab_file("leaf.conf"));
                leaf.boot_script(&lab_file("leaf-links.sh")).boot()
            });
            (boot(&bridge), leaf.join().unwrap())
        });
        Self { node, leaf, bridge }
    }
}

impl Builder {
    /// Boots the node, and waits for its FRR.
    pub fn boot_with_frr(self) -> Node {
        let node = self.boot();
        node.wait_for_frr();
        node.ok(&format!("mkdir -p {MANIFESTS}"));
        node
    }
}

impl Node {
    /// Boots the lab's node, and waits for its FRR.
    pub fn of_the_lab(bridge: &Bridge, image: Image, spelling: Spelling) -> Self {
        Self::numbered(bridge, image, spelling, 1)
    }

    /// Boots `node-N`, which differs from the lab's node in its addresses.
    pub fn numbered(bridge: &Bridge, image: Image, spelling: Spelling, number: u8) -> Self {
        Self::builder_of_the_lab(bridge, image, spelling, number).boot_with_frr()
    }

    /// Begins `node-N`.
    pub fn builder_of_the_lab(bridge: &Bridge, image: Image, spelling: Spelling, number: u8) -> Builder {
        let address = |text: String| {
            // What goes by .2 and .3 is the fabric.
            let own = if number == 1 { 1 } else { 10 + number };
            let text = text.replace("router-id 198.51.100.1\n", &format!("router-id 198.51.100.{own}\n"));
            let text = text.replace("198.51.100.1/24", &format!("198.51.100.{own}/24"));
            text.replace("192.0.2.129", &format!("192.0.2.{}", 128 + number))
        };
        let mut conf = address(lab_file("node.conf"));
        if spelling == Spelling::VrfDefault {
            conf = conf.replace("\nrouter bgp 64510\n", "\nrouter bgp 64510 vrf default\n");
        }
        Self::builder(&format!("node-{number}"), image)
            .nic(bridge)
            .file("/etc/frr/frr.conf", conf)
            .file("/opt/network-operator/config.yaml", lab_file("config.yaml"))
            .boot_script(&address(lab_file("node-links.sh")))
    }

    /// Puts the lab's objects into the node's folder.
    pub fn give_manifests(&self) {
        for name in LAB_MANIFESTS {
            self.write(&format!("{MANIFESTS}/{name}"), lab_file(&format!("manifests/{name}")));
        }
    }

    /// Says that there are no objects. A folder without a manifest would not say so.
    pub fn no_objects(&self) {
        self.ok(&format!(
            "cd {MANIFESTS} && printf 'kind: List\\napiVersion: v1\\nitems: []\\n' > none && mv none none.yaml && find . -type f ! -name none.yaml -delete"
        ));
    }

    /// Makes the node as it is after a boot, before an agent runs: FRR has its configuration, and our links are gone.
    pub fn lose_links(&self) {
        self.ok("systemctl stop frr && for name in vr br vx dv; do for vrf in blue red; do ip link del $name.$vrf; done; done");
        self.ok("systemctl start frr");
        self.wait_for_frr();
    }
}
