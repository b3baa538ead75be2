//! The main job on a real node beside a real leaf: objects in, leaked routes out; ten change sets; nothing left behind.

use std::time::Duration;

use super::metrics::told;
use crate::lab::{Expected, FROM_MANIFESTS, Fabric, Image, MANIFESTS, Node, Spelling, foreign, lab_file};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn bookworm_with_a_plain_template() {
    main_job(Image::Bookworm, Spelling::Plain);
}

#[test]
fn bookworm_with_a_template_that_says_vrf_default() {
    main_job(Image::Bookworm, Spelling::VrfDefault);
}

#[test]
fn trixie_with_a_plain_template() {
    main_job(Image::Trixie, Spelling::Plain);
}

#[test]
fn trixie_with_a_template_that_says_vrf_default() {
    main_job(Image::Trixie, Spelling::VrfDefault);
}

fn main_job(image: Image, spelling: Spelling) {
    let fabric = Fabric::boot(image, spelling);
    let node = &fabric.node;
    let before = foreign(node);
    let bgpd = node.pid("bgpd zebra");
    node.give_manifests();
    all_is_planned(node);
    before.assert_still(node, "after planning");
    node.start_agent(FROM_MANIFESTS);
    let mut applied = node.applied(0, LIMIT);
    assert_eq!(node.reloads(), 1);
    converged(&fabric);
    nothing_is_planned(node);
    node.assert_nothing_done(|node| {
        let steps = |step: &str| told(node, 9342).of(&format!("step_duration_seconds_count{{step=\"{step}\"}}"));
        node.wait("inputs that say the same are not gone through again", LIMIT, |node| {
            let ([runs, rendered], idle) = (["run", "render"].map(steps), node.says("nothing to do"));
            let touch = format!("touch {MANIFESTS}/blue.yaml /opt/network-operator/config.yaml");
            node.answered(LIMIT, |node| drop(node.ok(&touch)));
            assert!(steps("run") > runs && node.says("nothing to do") > idle);
            let now = steps("render");
            if rendered > 0.0 && now == rendered { Ok(()) } else { Err(format!("{rendered}, {now}")) }
        });
        let idle = node.says("nothing to do");
        // A restart of the agent changes nothing either.
        node.answered(LIMIT, |node| {
            node.stop_agent();
            node.start_agent(FROM_MANIFESTS);
        });
        assert!(node.says("nothing to do") > idle);
    });
    for (number, change) in CHANGES.iter().enumerate() {
        let reloads = node.reloads();
        node.ok(&format!("cd {MANIFESTS} && {change}"));
        applied = node.applied(applied, LIMIT);
        assert_eq!(node.reloads(), reloads + 1, "change {number}: {change}");
        assert_eq!(node.ok("systemctl is-active frr").trim(), "active", "change {number}: {change}");
        assert_eq!(node.pid("bgpd zebra"), bgpd, "change {number}: {change}");
    }
    let log = node.ok("journalctl -u frr -o cat --no-pager");
    assert!(!log.contains("failed due to") && !log.contains("FAILURE"), "{log}");
    fabric.wait_sessions(&["blue", "red", "green"]);
    node.no_objects();
    node.applied(applied, Duration::from_secs(400));
    assert_eq!(node.ok("ip -o link | grep -E ': (vr|br|vx|vd|dv)\\.(blue|red|green)' || true"), "");
    before.assert_still(node, "without objects");
    assert_eq!(
        node.pid("bgpd zebra"),
        bgpd,
        "{}",
        node.ok("journalctl -u frr -o short-precise --no-pager | tail -n 200")
    );
    node.stop_agent();
    before.assert_still(node, "after stopping");
}

/// Change sets, each of them one reload. The operator file knows green from the beginning of the third on.
const CHANGES: [&str; 10] = [
    // A prefix more, a community, a verdict turned.
    "sed -i 's#  - {cidr: 203.0.113.0/28, action: permit}#&\\n  - {cidr: 203.0.113.16/28, action: permit}#' blue.yaml",
    "sed -i 's/community: 64510:100/community: \"64510:100 64510:200\"/' blue.yaml",
    "sed -i 's/203.0.113.48\\/28, action: deny/203.0.113.48\\/28, action: permit/' red.yaml",
    // A VRF more, by the operator file and an object.
    "sed -i 's/  red: 101/  red: 101\\n  green: 102/' /opt/network-operator/config.yaml && sed 's/red/green/g' red.yaml > green.yaml.new && mv green.yaml.new green.yaml",
    // An aggregate, an object less.
    "sed -i 's/  seq: 20/  seq: 20\\n  aggregate: [203.0.113.0\\/26]/' blue.yaml",
    "sed -i '/^---/,$d' blue.yaml",
    // A VRF goes and comes back.
    "mv green.yaml green.off",
    "mv green.off green.yaml",
    // A VNI changes, and a route target is given.
    "sed -i 's/green: 102/green: 103/' /opt/network-operator/config.yaml",
    "sed -i 's/vrfConfig:/vrfConfig:\\n  green: {vni: 103, rt: \"64497:103\"}/' /opt/network-operator/config.yaml",
];

pub(super) const PLAN: &str = "/labbin/network-operator plan --node-name node-1 -f /etc/network-operator/manifests";

fn all_is_planned(node: &Node) {
    let text = node.ok(PLAN);
    for line in ["  create vrf vr.blue table 50", "  up dv.red", "+vrf vr.red", "+ vni 101", "--- /etc/frr/frr.conf"] {
        assert!(text.lines().any(|planned| planned == line), "no {line:?} in:\n{text}");
    }
    let json = node.json(&format!("{PLAN} --output json"));
    assert_eq!(json["frr"]["changed"], true);
    assert_eq!(json["links"]["create"][0], serde_json::json!({"op": "create-vrf", "name": "vr.blue", "table": 50}));
    assert_eq!(json["rejections"], serde_json::json!([]));
}

pub(super) fn nothing_is_planned(node: &Node) {
    let nothing = "links: nothing to do\neBPF router: nothing to do\nFRR: nothing to do\nBGP sessions that end or are reset: none\nfrr.conf: nothing to do\n";
    assert_eq!(node.ok(PLAN), nothing);
}

fn converged(fabric: &Fabric) {
    fabric.assert_claims(LIMIT);
    for (vrf, vni, mtu) in [("blue", 100, 9000), ("red", 101, 1500)] {
        let (local, mac) = ("192.0.2.129", "02:54:c0:00:02:81");
        let expected = Expected { vrf, vni, mtu, overlay_mtu: 9000, local, mac, tables: 50..=252 };
        crate::lab::assert_attributes(&|command| fabric.node.ok(command), &expected);
    }
}

#[test]
fn the_lab_objects_are_good_for_render_too() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["node.conf", "config.yaml"] {
        std::fs::write(folder.path().join(name), lab_file(name)).unwrap();
    }
    let manifests = format!("{}/testdata/lab/manifests", env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_network-operator"))
        .current_dir(folder.path())
        .args(["render", "--config", "config.yaml", "--template", "node.conf", "--underlay-ip", "192.0.2.129"])
        .args(["--node-name", "node-1", "-f", &manifests])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\nrouter bgp 64510 vrf vr.blue\n"));
}
