//! A node that reboots while the API server is away: the way to it may lead through the very VRFs that are to come back.

use std::time::Duration;

use crate::kube_api::KUBECONFIG;
use crate::lab::cluster::rights;
use crate::lab::{ApiServer, Down, Fabric, Image, LAB_MANIFESTS, Spelling, lab_file};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn links_sessions_and_routes_return_after_a_reboot_of_bookworm_without_the_api_server() {
    reboot(Image::Bookworm, Down::Clean);
}

#[test]
fn links_sessions_and_routes_return_after_a_power_loss_of_trixie_without_the_api_server() {
    reboot(Image::Trixie, Down::PowerLoss);
}

/// What the unit that is shipped reads from /etc/default/network-operator.
const DEFAULTS: &str =
    "NETWORK_OPERATOR_FLAGS=\"--debounce 1s --input-limit 5s\"\nKUBECONFIG=/etc/network-operator/kubeconfig\n";

fn reboot(image: Image, down: Down) {
    let mut fabric = Fabric::boot(image, Spelling::Plain);
    let mut server = ApiServer::start(&fabric.bridge);
    server.kubectl(&["apply", "-f", "-"], &rights());
    server.kubectl(&["apply", "-f", "-"], &fabric.node.ok("/labbin/network-operator crds"));
    server
        .kubectl(&["wait", "--for=condition=Established", "crd/vrfrouteconfigurations.network.schiff.telekom.de"], "");
    let all = LAB_MANIFESTS.map(|name| lab_file(&format!("manifests/{name}"))).join("---\n");
    server.kubectl(&["apply", "-f", "-"], &all);
    let node = &fabric.node;
    node.write(KUBECONFIG, server.kubeconfig("agent"));
    node.start_unit(DEFAULTS);
    node.applied(0, LIMIT);
    fabric.assert_claims(LIMIT);
    let conf = fabric.node.read("/etc/frr/frr.conf");
    server.stop();
    if down == Down::PowerLoss {
        // The unit and its files are the site's; they have been there for longer than the kernel keeps its writes back.
        fabric.node.ok("sync -f /etc/systemd/system/network-operator.service");
    }
    fabric.node.reboot(down);
    fabric.node.wait_for_frr();
    fabric.assert_claims(LIMIT);
    fabric.node.assert_confined_as_shipped();
    assert_eq!(fabric.node.read("/etc/frr/frr.conf"), conf, "what was accepted before is what FRR has started with");
    // When it is back, its word counts.
    server.start_again();
    server.kubectl(&["delete", "vrf", "--all"], "");
    // The watch begins anew after a back-off.
    fabric.node.wait("no VRFs", LIMIT, |node| {
        let links = node.ok("ip -o link | grep -E ': (vr|br|vx|vd|dv)\\.(blue|red)' || true");
        if links.is_empty() { Ok(()) } else { Err(links) }
    });
    // One line each for an API server that goes, is away for many attempts, and comes back.
    let (away, back) = ("no VRFRouteConfigurations from the API server", "the API server answers again");
    let [away, back, kube] = [away, back, "failed with error"].map(|words| fabric.node.says(words));
    assert!(away <= 3 && back == 1 && kube == 0, "{}", fabric.node.agent_log());
}
