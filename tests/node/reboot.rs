//! A node that reboots: the agent, an enabled unit, brings back what the kernel has lost.

use std::time::Duration;

use crate::lab::{Down, FROM_MANIFESTS, Fabric, Image, Spelling};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn links_sessions_and_routes_return_after_a_reboot_of_bookworm() {
    reboot(Image::Bookworm, Down::Clean);
}

#[test]
fn links_sessions_and_routes_return_after_a_power_loss_of_trixie() {
    reboot(Image::Trixie, Down::PowerLoss);
}

fn unit(args: &str) -> String {
    format!(
        "[Unit]\nDescription=network-operator\nAfter=frr.service\n\n[Service]\nType=exec\nEnvironment=NODE_NAME=node-1\n\
         ExecStart=/labbin/network-operator run {args}\nRestart=on-failure\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

fn reboot(image: Image, down: Down) {
    let mut fabric = Fabric::boot(image, Spelling::Plain);
    let node = &fabric.node;
    node.give_manifests();
    node.write("/etc/systemd/system/network-operator.service", unit(FROM_MANIFESTS));
    node.ok("systemctl daemon-reload && systemctl enable --now network-operator");
    node.applied(0, LIMIT);
    fabric.assert_claims(LIMIT);
    let conf = fabric.node.read("/etc/frr/frr.conf");
    if down == Down::PowerLoss {
        // The unit and the objects are the site's; they have been there for longer than the kernel keeps its writes back.
        fabric.node.ok("sync -f /etc/systemd/system/network-operator.service");
    }
    fabric.node.reboot(down);
    let node = &fabric.node;
    node.wait_for_frr();
    assert_eq!(node.ok("systemctl is-enabled network-operator").trim(), "enabled");
    fabric.assert_claims(LIMIT);
    assert_eq!(fabric.node.read("/etc/frr/frr.conf"), conf, "what was accepted before is what FRR has started with");
}
