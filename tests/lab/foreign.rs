//! What belongs to others on the lab's node, as it must stay.

use similar::TextDiff;

use super::Node;

/// Links and FRR's running configuration.
pub struct Foreign {
    text: String,
}

impl Foreign {
    /// Fails with the lines that came and went.
    pub fn assert_still(&self, node: &Node, when: &str) {
        let now = foreign(node).text;
        let difference = TextDiff::from_lines(&self.text, &now).unified_diff().context_radius(1).to_string();
        assert!(difference.is_empty(), "of others, {when}: {difference}");
    }
}

/// What is there now.
pub fn foreign(node: &Node) -> Foreign {
    let links = ["vr-mine", "br.others", "dum.underlay", "vec0"]
        .map(|name| node.ok(&format!("ip -d -j -p link show dev {name}")))
        .concat();
    // FRR prints the host's name once a reload has been; nobody configured it.
    let running = node.vtysh("show running-config");
    let running = running.lines().filter(|line| !line.starts_with("hostname"));
    let text = links.lines().chain(running).flat_map(|line| [line, "\n"]).collect();
    Foreign { text }
}
