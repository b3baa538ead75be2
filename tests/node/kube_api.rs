//! The main job with a real API server: rights, CRD, objects made, changed and deleted with kubectl.

use std::time::{Duration, Instant};

use super::metrics::told;
use crate::lab::cluster::rights;
use crate::lab::{ApiServer, Bridge, LAB_MANIFESTS, Node, lab_file};

const LIMIT: Duration = Duration::from_secs(180);
const WINDOW: Duration = Duration::from_secs(15);
/// What asks for a run, and changes nothing.
const TOUCH: &str = "touch /opt/network-operator/config.yaml";
const CRD: &str = "crd/vrfrouteconfigurations.network.schiff.telekom.de";
pub(crate) const KUBECONFIG: &str = "/etc/network-operator/kubeconfig";

fn object(name: &str, vrf: &str, seq: i64, rest: &str) -> String {
    format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: {name}}}\nspec:\n  vrf: {vrf}\n  seq: {seq}\n{rest}\n"
    )
}

fn exports(index: usize) -> String {
    format!("  import: []\n  export: [{{cidr: 10.0.{index}.0/24, action: permit}}]")
}

struct Rig {
    node: Node,
    server: ApiServer,
    /// Removed behind both.
    _bridge: Bridge,
}

impl Rig {
    fn boot() -> Self {
        let bridge = Bridge::new();
        let (server, node) = ApiServer::with_node(&bridge);
        node.write(KUBECONFIG, server.kubeconfig("agent"));
        Self { node, server, _bridge: bridge }
    }

    fn start_agent(&self) {
        self.start_agent_with("");
    }

    fn start_agent_with(&self, more: &str) {
        let args = format!("--debounce {}s {more}", WINDOW.as_secs());
        self.node.start_agent_with(&args, &format!("-E KUBECONFIG={KUBECONFIG}"));
    }

    /// Asserts that one change set of whatever many changes is one reload, and gives how many sets there are now.
    fn one_reload(&self, applied: usize, change: impl FnOnce(&ApiServer)) -> usize {
        let (reloads, begin) = (self.node.reloads(), Instant::now());
        change(&self.server);
        assert!(begin.elapsed() < WINDOW, "the changes took longer than the window: {:?}", begin.elapsed());
        let now = self.node.applied(applied, LIMIT);
        assert_eq!(self.node.reloads(), reloads + 1);
        now
    }
}

#[test]
fn objects_of_the_api_server_come_onto_the_node_and_go_again() {
    let mut rig = Rig::boot();
    no_rights_and_no_crd_change_nothing(&rig);
    // No objects is an answer: the hints go out of frr.conf, which is one reload that changes nothing.
    let mut applied = rig.node.applied(0, LIMIT);
    applied = rig.one_reload(applied, |server| {
        let all = LAB_MANIFESTS.map(|name| lab_file(&format!("manifests/{name}"))).join("---\n");
        server.kubectl(&["apply", "-f", "-"], &all);
    });
    rig.server.kubectl(&["wait", "--for=condition=Applied", "vrf/blue-main", "--timeout=60s"], "");
    let columns = rig.server.kubectl(&["get", "vrf", "blue-main"], "");
    let first: Vec<&str> = columns.lines().flat_map(str::split_whitespace).collect();
    let names = ["NAME", "VRF", "SEQUENCE", "COMMUNITY", "ACCEPTED", "APPLIED", "NODES", "AGE"];
    assert_eq!(first[..8], names);
    assert_eq!(first[8..15], ["blue-main", "blue", "10", "64510:100", "True", "1", "1"]);
    let vnis = rig.node.json("vtysh -c 'show vrf vni json'");
    assert_eq!(vnis["vrfs"].as_array().unwrap().len(), 2, "{vnis}");

    let fifty: String = (0..50).map(|n| object(&format!("many-{n}"), "blue", 100 + n, &exports(n as usize))).collect();
    applied = rig.one_reload(applied, |server| drop(server.kubectl(&["apply", "-f", "-"], &fifty)));
    let conf = rig.node.read("/etc/frr/frr.conf");
    assert_eq!(conf.lines().filter(|line| line.starts_with("ip prefix-list pl_blue_export_1")).count(), 51, "{conf}");
    rig.node.assert_nothing_done(|node| {
        // A label is no change of what is asked for; the operator file that is touched asks for a run.
        rig.server.kubectl(&["label", "vrf", "--all", "seen=yes"], "");
        let idle = node.says("nothing to do");
        node.answered(LIMIT, |node| drop(node.ok(TOUCH)));
        assert!(node.says("nothing to do") > idle);
    });

    applied = rig.one_reload(applied, |server| {
        let changed = fifty.replace("10.0.", "10.1.");
        server.kubectl(&["apply", "-f", "-"], &changed);
    });
    assert!(!rig.node.read("/etc/frr/frr.conf").contains("10.0."));
    applied = bad_objects_leave_the_good_ones(&rig, applied);
    applied = a_deletion_waits_for_news_of_the_crd(&rig, applied);
    a_crd_that_is_removed_keeps_the_node(&rig);
    applied = the_api_server_away_keeps_the_node(&mut rig, applied);
    rig.one_reload(applied, |server| drop(server.kubectl(&["delete", "vrf", "--all"], "")));
    assert_eq!(rig.node.ok("ip -o link | grep -E ': (vr|br|vx|vd|dv)\\.(blue|red)' || true"), "");
}

fn no_rights_and_no_crd_change_nothing(rig: &Rig) {
    let before = rig.node.ok("md5sum /etc/frr/*; ls /etc/frr; ip -o link");
    rig.start_agent();
    rig.node.agent_says("the service account needs list and watch on vrfrouteconfigurations", 0, LIMIT);
    rig.server.kubectl(&["apply", "-f", "-"], &rights());
    rig.node.agent_says("is the CRD installed? (`network-operator crds | kubectl apply -f -`)", 0, LIMIT);
    assert_eq!(rig.node.ok("md5sum /etc/frr/*; ls /etc/frr; ip -o link"), before);
    let crds = rig.node.ok("/labbin/network-operator crds");
    rig.server.kubectl(&["apply", "-f", "-"], &crds);
    rig.server.kubectl(&["wait", "--for=condition=Established", CRD], "");
    rig.node.agent_says("the API server answers again", 0, LIMIT);
}

/// What the schema can refuse is refused by the server, whatever its age; the rest by the agent, each alone.
fn bad_objects_leave_the_good_ones(rig: &Rig, applied: usize) -> usize {
    let empty = "  import: []\n  export: []";
    let import = |item: &str| format!("  import: [{item}]\n  export: []");
    for (what, text) in [
        ("spec.seq", object("bad", "blue", 0, empty)),
        ("spec.seq", object("bad", "blue", 65535, empty)),
        ("spec.vrf", object("bad", "thirteenchars", 60, empty)),
        ("spec.vrf", object("bad", "'a b'", 60, empty)),
        ("spec.mtu", object("bad", "blue", 60, &format!("{empty}\n  mtu: 1279"))),
        ("spec.community", object("bad", "blue", 60, &format!("{empty}\n  community: \"1:1\\nrouter bgp 1\""))),
        ("spec.import.ge", object("bad", "blue", 60, &import("{cidr: 10.0.0.0/8, ge: 129, action: permit}"))),
        ("spec.import.action", object("bad", "blue", 60, &import("{cidr: 10.0.0.0/8, action: pass}"))),
        ("spec.import.cidr", object("bad", "blue", 60, &import("{cidr: 10.0.0.0, action: permit}"))),
    ] {
        let error = rig.server.try_kubectl(&["apply", "-f", "-"], &text).unwrap_err();
        let plain: String = error.replace(['[', ']', '0'], "");
        assert!(plain.contains(what), "no {what} in {error}");
    }
    let bad = [
        (
            "host-bits",
            "spec.import[0].cidr",
            object("host-bits", "blue", 61, &import("{cidr: 10.0.0.1/8, action: permit}")),
        ),
        (
            "short-ge",
            "spec.import[0].ge",
            object("short-ge", "blue", 62, &import("{cidr: 10.0.0.0/8, ge: 7, action: permit}")),
        ),
        (
            "long-ge",
            "spec.import[0].ge",
            object("long-ge", "blue", 63, &import("{cidr: 10.0.0.0/8, ge: 33, action: permit}")),
        ),
        ("twice", "spec.seq", object("twice", "blue", 10, empty)),
        ("unknown", "spec.vrf", object("unknown", "nowhere", 64, empty)),
        ("word", "spec.community", object("word", "blue", 65, &format!("{empty}\n  community: no router bgp"))),
    ];
    let good = object("good", "blue", 66, &exports(66));
    let now = rig.one_reload(applied, |server| {
        let all: String = bad.iter().map(|(.., text)| text.as_str()).chain([good.as_str()]).collect();
        server.kubectl(&["apply", "-f", "-"], &all);
    });
    let log = rig.node.agent_log();
    for (name, field, _) in &bad {
        let words = [format!("object={name} "), format!("field={field} ")];
        assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "no {words:?} in\n{log}");
    }
    let conf = rig.node.read("/etc/frr/frr.conf");
    assert!(conf.contains("ip prefix-list pl_blue_export_66 seq 1 permit 10.0.66.0/24"), "{conf}");
    // CEL rules count where the server knows them; where it drops them, the agent says the same.
    let crossed = object("crossed", "blue", 67, &import("{cidr: 10.0.0.0/8, ge: 24, le: 16, action: permit}"));
    if rig.server.try_kubectl(&["apply", "-f", "-"], &crossed).is_ok() {
        rig.node.agent_says("object=crossed field=spec.import[0].ge", 0, LIMIT);
    }
    now
}

/// The objects go with their CRD, one by one; nobody asked for that.
fn a_crd_that_is_removed_keeps_the_node(rig: &Rig) {
    let objects = rig.server.kubectl(&["get", "vrf", "-o", "yaml"], "");
    let crds = rig.node.ok("/labbin/network-operator crds");
    let now = || (rig.node.ok("md5sum /etc/frr/frr.conf"), rig.node.reloads());
    let before = now();
    let put_back = || {
        rig.server.kubectl(&["apply", "-f", "-"], &crds);
        rig.server.kubectl(&["wait", "--for=condition=Established", CRD], "");
    };
    for at_once in [false, true] {
        let without = rig.node.says("the CRD is there again without these objects");
        rig.node.answered(LIMIT, |node| {
            node.ok(TOUCH);
            rig.server.kubectl(&["delete", CRD], "");
            if at_once {
                return put_back();
            }
            node.agent_says("is the CRD installed?", 1, LIMIT);
            node.agent_says("the CRD was removed, and its objects with it: they stay in force", 0, LIMIT);
        });
        if !at_once {
            let answers = rig.node.says("the API server answers again");
            assert_eq!(told(&rig.node, 9342).of("api_server_answers"), 0.0);
            put_back();
            rig.node.agent_says("the API server answers again", answers, LIMIT);
        }
        rig.node.agent_says("the CRD is there again without these objects", without, LIMIT);
        if at_once {
            rig.node.wait("the API server answers", LIMIT, |node| answers(node, 1.0));
        } else {
            assert_eq!(told(&rig.node, 9342).of("api_server_answers"), 1.0);
        }
        rig.node.answered(LIMIT, |node| drop(node.ok(TOUCH)));
        assert_eq!(now(), before, "nobody has asked for no VRFs");
        rig.node.answered(LIMIT, |_| drop(rig.server.kubectl(&["apply", "-f", "-"], &objects)));
        assert_eq!(now(), before);
    }
    rig.server.kubectl(&["wait", "--for=condition=Applied", "vrf/blue-main", "--timeout=60s"], "");
}

/// Without the right to look at the CRD nobody can tell, and what is deleted stays in force.
fn a_deletion_waits_for_news_of_the_crd(rig: &Rig, applied: usize) -> usize {
    let is_there = || rig.node.read("/etc/frr/frr.conf").contains("pl_blue_export_100 ");
    let without: String = rights()
        .lines()
        .filter(|line| !line.contains("[customresourcedefinitions]"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(without.lines().count() + 1, rights().lines().count());
    rig.server.kubectl(&["apply", "-f", "-"], &without);
    rig.node.answered(LIMIT, |node| {
        node.ok(TOUCH);
        rig.server.kubectl(&["delete", "vrf", "many-0"], "");
        node.agent_says("the service account needs get on the customresourcedefinition", 0, LIMIT);
    });
    assert!(is_there());
    assert_eq!(told(&rig.node, 9342).of("api_server_answers"), 0.0);
    let now = rig.one_reload(applied, |server| drop(server.kubectl(&["apply", "-f", "-"], &rights())));
    assert!(!is_there());
    assert_eq!(told(&rig.node, 9342).of("api_server_answers"), 1.0);
    now
}

fn answers(node: &Node, meant: f64) -> Result<(), String> {
    let told = told(node, 9342).of("api_server_answers");
    (told == meant).then_some(()).ok_or_else(|| told.to_string())
}

fn the_api_server_away_keeps_the_node(rig: &mut Rig, applied: usize) -> usize {
    let state = |rig: &Rig| {
        let links = rig.node.ok("ip -o link | grep -cE ': (vr|br|vx|vd|dv)\\.'");
        rig.node.ok("md5sum /etc/frr/frr.conf") + &links
    };
    let (before, reloads) = (state(rig), rig.node.reloads());
    let away = rig.node.says("the node keeps what it has");
    rig.server.stop();
    rig.node.agent_says("the node keeps what it has", away, LIMIT);
    assert_eq!(told(&rig.node, 9342).of("api_server_answers"), 0.0);
    rig.node.answered(LIMIT, |node| drop(node.ok(TOUCH)));
    assert_eq!((state(rig), rig.node.reloads()), (before.clone(), reloads));
    // After a boot the way to the API server may lead through the very VRFs that are to be made.
    rig.node.stop_agent();
    rig.node.lose_links();
    let alone = state(rig);
    rig.node.answered(LIMIT, |node| {
        rig.start_agent_with("--input-limit 20s");
        node.agent_says("network-operator runs", 1, LIMIT);
        node.ok(TOUCH);
    });
    assert_eq!(state(rig), alone, "within the limit it knows no objects, which is not the same as that there are none");
    rig.node.agent_says("no objects yet: those that were accepted last are applied", 0, LIMIT);
    let applied = rig.node.applied(applied, LIMIT);
    assert_eq!(state(rig), before);
    rig.node.answered(LIMIT, |_| rig.server.start_again());
    assert_eq!(state(rig), before);
    rig.server.stop();
    rig.node.wait("the API server is away", LIMIT, |node| answers(node, 0.0));
    rig.server.start_again();
    rig.node.wait("it answers, though nothing has changed", LIMIT, |node| answers(node, 1.0));
    rig.one_reload(applied, |server| drop(server.kubectl(&["delete", "vrf", "good"], "")))
}
