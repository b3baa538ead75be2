//! What belongs to others on the lab's node, as it must stay.

use super::Node;

/// Links and FRR's running configuration.
#[derive(Debug, PartialEq)]
pub struct Foreign {
    links: String,
    running: String,
}

/// What is there now.
pub fn foreign(node: &Node) -> Foreign {
    let links =
        ["vr-mine", "br.others", "dum.underlay", "vec0"].map(|name| node.ok(&format!("ip -d -j link show dev {name}")));
    // FRR prints the host's name once a reload has been; nobody configured it.
    let running = node
        .vtysh("show running-config")
        .lines()
        .filter(|line| !line.starts_with("hostname"))
        .collect::<Vec<_>>()
        .join("\n");
    Foreign { links: links.concat(), running }
}
