//! The lab itself: if these fail, no other lab test means anything.

use std::time::Duration;

use crate::lab::{ApiServer, Bridge, Image, Node};

#[test]
fn nodes_of_both_releases_boot_talk_and_reach_each_other() {
    let bridge = Bridge::new();
    let nodes = std::thread::scope(|scope| {
        let boot = |(index, image): (usize, Image)| {
            let node = Node::builder(&format!("n{index}"), image).nic(&bridge).file("/etc/lab-file", "hello\n").boot();
            node.ok(&format!("ip link set vec0 up && ip addr add 198.51.100.{}/24 dev vec0", index + 1));
            node
        };
        let threads: Vec<_> =
            Image::ALL.into_iter().enumerate().map(|image| scope.spawn(move || boot(image))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (node, image) in nodes.iter().zip(Image::ALL) {
        assert_eq!(node.run("echo out; echo err >&2; exit 7").status, 7);
        assert_eq!(node.read("/etc/lab-file"), "hello\n");
        assert_eq!(node.ok("head -c 300000 /dev/zero | tr '\\0' x").len(), 300_000);
        node.ok("ip link add vr.x type vrf table 50 && ip link del vr.x");
        node.wait_for_frr();
        assert!(
            node.vtysh("show version").contains(&format!("FRRouting {}", image.frr())),
            "{}",
            node.vtysh("show version")
        );
    }
    nodes[0].wait("n0 reaches n1", Duration::from_secs(20), |node| {
        let ping = node.run("ping -c 1 -W 2 198.51.100.2");
        if ping.status == 0 { Ok(()) } else { Err(ping.stdout) }
    });
    let server = ApiServer::start(&bridge);
    assert!(server.kubectl(&["get", "namespaces"], "").contains("default"));
    nodes[1].ok("exec 3<>/dev/tcp/198.51.100.254/6443");
}
