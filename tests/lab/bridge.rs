//! A network of the lab's own: a bridge in a network namespace, with taps for nodes.

use std::process::Command;

use super::unique;

/// The bridge; it goes with this value.
pub struct Bridge {
    netns: String,
}

/// Address of the bridge itself, where an API server listens for the nodes.
pub const HOST: &str = "198.51.100.254";

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Bridge {
    /// Makes the bridge.
    pub fn new() -> Self {
        sweep();
        let netns = unique("lab");
        ip(&format!("netns add {netns}"));
        let bridge = Self { netns };
        let ns = &bridge.netns;
        for line in ["link set lo up", "link add br0 type bridge", "link set br0 up"] {
            ip(&format!("-n {ns} {line}"));
        }
        ip(&format!("-n {ns} addr add {HOST}/24 dev br0"));
        bridge
    }

    /// The namespace.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// Gives the bridge one more address, with the length of its prefix.
    pub fn address(&self, address: &str) {
        ip(&format!("-n {} addr add {address} dev br0", self.netns));
    }

    /// Makes one more bridge in the same namespace, without an address.
    pub fn segment(&self, name: &str) {
        ip(&format!("-n {} link add {name} type bridge", self.netns));
        ip(&format!("-n {} link set {name} up", self.netns));
    }

    /// Makes one more tap on a bridge of this namespace.
    pub(super) fn tap(&self, segment: &str) -> String {
        let (ns, tap) = (&self.netns, unique("t"));
        ip(&format!("-n {ns} tuntap add {tap} mode tap"));
        ip(&format!("-n {ns} link set {tap} master {segment} up"));
        tap
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).status();
    }
}

/// Removes what runners left that are gone: their namespaces carry their process number.
fn sweep() {
    let output = Command::new("ip").args(["netns", "list"]).output().expect("iproute2 is installed");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let Some(rest) = name.strip_prefix("lab") else { continue };
        let ours = (1..rest.len()).any(|end| {
            u32::from_str_radix(&rest[..end], 16)
                .is_ok_and(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists())
        });
        if !ours {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}
