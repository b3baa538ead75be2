//! 30 VRFs with 50 prefixes each way converge in a node, and go again. These tests take longest, and their name has them begin first.

use std::time::Duration;

use crate::lab::{Bridge, FROM_MANIFESTS, Image, MANIFESTS, Node, Spelling};

/// A third of it is plenty on cores that have nothing else to do.
const LIMIT: Duration = Duration::from_secs(600);
const VRFS: usize = 30;
const PREFIXES: usize = 50;

#[test]
fn thirty_vrfs_with_fifty_prefixes_each_way_converge_on_bookworm() {
    thirty_vrfs(Image::Bookworm);
}

#[test]
fn thirty_vrfs_with_fifty_prefixes_each_way_converge_on_trixie() {
    thirty_vrfs(Image::Trixie);
}

fn object(vrf: usize) -> String {
    let list = |first: usize| {
        let items = (0..PREFIXES).map(|n| format!("  - {{cidr: 10.{}.{n}.0/24, action: permit}}", first + vrf));
        items.collect::<Vec<_>>().join("\n")
    };
    format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: v{vrf}}}\nspec:\n  vrf: v{vrf}\n  seq: 10\n  import:\n{}\n  export:\n{}\n",
        list(0),
        list(100)
    )
}

fn thirty_vrfs(image: Image) {
    let bridge = Bridge::new();
    let node = Node::of_the_lab(&bridge, image, Spelling::VrfDefault);
    let running = node.vtysh("show running-config");
    let vnis: String = (0..VRFS).map(|vrf| format!("  v{vrf}: {}\n", 1000 + vrf)).collect();
    node.write("/opt/network-operator/config.yaml", format!("bpf: {{notrack: false}}\nvnimap:\n{vnis}"));
    // Checks of the node's health all the while: they must not undo what FRR is given.
    node.write("/opt/network-operator/net-healthcheck-config.yaml", "interval: 1\n");
    node.write(&format!("{MANIFESTS}/all.yaml"), (0..VRFS).map(object).collect::<String>());
    node.start_agent(FROM_MANIFESTS);
    let applied = node.applied(0, LIMIT);
    assert_eq!(node.reloads(), 1, "{}", node.agent_log());
    let vnis = node.json("vtysh -c 'show vrf vni json'");
    let up = vnis["vrfs"].as_array().unwrap().iter().filter(|vrf| vrf["state"] == "Up").count();
    assert_eq!(up, VRFS, "{vnis}");
    node.wait("all sessions", LIMIT, |node| {
        let all = node.json("vtysh -c 'show bgp vrf all ipv4 unicast summary json'");
        let instances = all.as_object().unwrap().values();
        let peers = instances.filter_map(|instance| instance["peers"].as_object()).flatten();
        let ours = peers
            .filter(|(name, peer)| name.contains('.') && peer["state"] == "Established")
            .filter(|(name, _)| name.starts_with('d') || name.starts_with('v'));
        let count = ours.count();
        if count == 2 * VRFS { Ok(()) } else { Err(format!("{count} of {}", 2 * VRFS)) }
    });
    let lines = node.read("/etc/frr/frr.conf").lines().filter(|line| line.contains("prefix-list pl_")).count();
    assert_eq!(lines, VRFS * (2 * PREFIXES + 2));
    node.no_objects();
    node.applied(applied, LIMIT);
    assert_eq!(node.ok("ip -o link | grep -E ': (vr|br|vx|vd|dv)\\.v' || true"), "");
    let left = node.vtysh("show running-config");
    let configured =
        |text: &str| text.lines().filter(|line| !line.starts_with("hostname")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(configured(&left), configured(&running));
    assert_eq!(node.ok("systemctl is-active frr").trim(), "active");
}
