//! A node gets work when its network is there, and not before: checks, taints, the node's condition, probes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use network_operator::api::crd_yaml;
use serde_json::json;

use super::kube_api::KUBECONFIG;
use super::metrics::told;
use crate::lab::cluster::{Cluster, until, with_server};
use crate::lab::{ApiServer, Bridge, LAB_MANIFESTS, Node as LabNode, lab_file};

const UNINITIALIZED: [&str; 2] =
    ["node.cloudprovider.kubernetes.io/uninitialized", "node.schiff.telekom.de/uninitialized"];
const FILE: &str = "/opt/network-operator/net-healthcheck-config.yaml";
/// From the moment at which all holds until the taints are gone.
const SOON: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "/etc/frr/frr.conf.tpl";
const ASKED: &str = "asked for a run trigger=template";
/// Connects to staticd until its queue is full.
const FILL: &str = r#"
import socket
for _ in range(100):
    try: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK).connect("/run/frr/staticd.vty")
    except BlockingIOError: break
else: raise SystemExit("its queue has more than 100 places")
"#;
/// A health file that somebody names.
const NAMED: &str = "/etc/health.yaml";

struct Watched<'a> {
    nodes: Api<Node>,
    node: &'a LabNode,
}

impl Watched<'_> {
    async fn get(&self) -> Node {
        self.nodes.get(self.node.name()).await.unwrap()
    }

    async fn taints(&self) -> Vec<String> {
        let taints = self.get().await.spec.unwrap_or_default().taints.unwrap_or_default();
        taints.into_iter().map(|taint| taint.key).collect()
    }

    async fn condition(&self) -> Option<NodeCondition> {
        let conditions = self.get().await.status.unwrap_or_default().conditions.unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "NetworkOperatorReady")
    }

    /// Waits until the condition has this status, and words for which `right` holds.
    async fn says(&self, status: &str, what: &str, right: impl Fn(&str) -> bool) {
        until(&format!("{status}: {what}"), async || {
            let said = self.condition().await.ok_or_else(|| "no condition".to_owned())?;
            let message = said.message.unwrap_or_default();
            if said.status == status && right(&message) { Ok(()) } else { Err(format!("{}: {message}", said.status)) }
        })
        .await;
    }

    /// The taint stays while that is so, for more than two rounds of checks.
    async fn is_kept_away_by(&self, faults: &[&str]) {
        let what = faults.join(", ");
        let said = || self.says("False", &what, |message| faults.iter().all(|fault| message.contains(fault)));
        said().await;
        tokio::time::sleep(SOON).await;
        said().await;
        let taints = self.taints().await;
        assert!(
            UNINITIALIZED.iter().all(|key| taints.iter().any(|taint| taint == key)),
            "{faults:?}: {taints:?}\n{}",
            self.node.agent_log()
        );
    }

    /// A change of the Node by somebody else: a label, and taints before all others. It may be that one of these is there already.
    async fn edit(&self, label: &str, taints: &[serde_json::Value]) -> kube::Result<()> {
        let mut patch = vec![json!({"op": "add", "path": format!("/metadata/labels/{label}"), "value": "1"})];
        patch.extend(taints.iter().map(|taint| json!({"op": "add", "path": "/spec/taints/0", "value": taint})));
        let patch = Patch::Json::<()>(serde_json::from_value(patch.into()).unwrap());
        self.nodes.patch(self.node.name(), &PatchParams::default(), &patch).await.map(drop)
    }
}

fn taint(key: &str) -> serde_json::Value {
    json!({"key": key, "effect": "NoSchedule", "value": "true"})
}

async fn a_tainted_node(cluster: &Cluster, node: &LabNode) {
    let taints = ["gpu", UNINITIALIZED[0], "other", UNINITIALIZED[1]].map(taint);
    let made = json!({"metadata": {"name": node.name(), "labels": {"mine": "1"}}, "spec": {"taints": taints}});
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
    cluster.is_ready(node.name(), "True").await;
    let status = Patch::Strategic(json!({"status": {"conditions": [{"type": "OfOthers", "status": "True"}]}}));
    nodes.patch_status(node.name(), &PatchParams::default(), &status).await.unwrap();
}

/// What a probe answers: status and body.
fn probe(node: &LabNode, path: &str) -> String {
    let (status, body) = node.asked(9342, path);
    format!("{status} {}", body.trim())
}

#[test]
fn a_node_gets_work_when_all_its_checks_pass_and_others_changes_of_it_are_kept() {
    let bridge = Bridge::new();
    let (server, node) = ApiServer::with_node(&bridge);
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        a_tainted_node(&cluster, &node).await;
        let watched = Watched { nodes: Api::all(cluster.client.clone()), node: &node };
        node.write(KUBECONFIG, server.kubeconfig("agent"));
        node.write(
            FILE,
            "interfaces: [\"te*0\"]\nreachability: [{host: 203.0.113.250, port: 7}]\ntimeout: 1\nretries: 1\n",
        );
        let all = LAB_MANIFESTS.map(|name| lab_file(&format!("manifests/{name}"))).join("---\n");
        server.kubectl(&["apply", "-f", "-"], &all);
        node.ok("systemctl stop frr");
        // A look of its own would wait for a daemon that is stopped, too, and be the run that is counted below.
        node.start_agent_with("--debounce 1s --check-interval 0s", &format!("-E KUBECONFIG={KUBECONFIG}"));
        it_is_kept_away_until_all_holds(&watched).await;
        nothing_is_lost_of_a_hundred_edits(&watched).await;
        silent_hosts_and_a_silent_resolver_delay_nothing(&watched, server).await;
        a_node_that_was_ready_is_marked_where_that_is_asked_for(&watched).await;
    });
}

async fn it_is_kept_away_until_all_holds(watched: &Watched<'_>) {
    let node = watched.node;
    watched
        .is_kept_away_by(&["frr: frr.service is inactive", "verified", "there is no link te*0", "203.0.113.250:7"])
        .await;
    watched.says("False", "the run's reason", |message| message.contains("frr.service does not run")).await;
    let (not_ready, said) = (probe(node, "/readyz"), watched.condition().await.unwrap().message.unwrap());
    let reason = not_ready.strip_prefix("503 ").unwrap();
    assert!(reason.contains("frr.service") && said.contains(reason), "{reason}\n{said}");
    assert_eq!(probe(node, "/healthz"), "200 ok");
    node.ok("systemctl start frr; ip link add test0 type dummy");
    watched.says("False", "FRR runs", |message| !message.contains("frr") && !message.contains("verified")).await;
    assert_eq!(probe(node, "/readyz"), "200 verified");
    watched.is_kept_away_by(&["test0 is down", "203.0.113.250:7"]).await;
    // Each of them alone; the host first, while it is tried in each round.
    node.ok("ip link set test0 up");
    watched.says("False", "the link is up", |message| !message.contains("test0")).await;
    watched.is_kept_away_by(&["reachability: 203.0.113.250:7"]).await;
    node.ok("ip link set test0 down");
    watched.is_kept_away_by(&["test0 is down", "203.0.113.250:7"]).await;
    node.ok("ip addr add 203.0.113.250/32 dev lo");
    watched.says("False", "the host is there", |message| !message.contains("203.0.113.250")).await;
    watched.is_kept_away_by(&["interfaces: test0 is down"]).await;
    node.ok("ip addr del 203.0.113.250/32 dev lo");
    let template = node.read(TEMPLATE);
    let broken = template.replacen(
        " neighbor 198.51.100.3 timers connect 1",
        " neighbor 198.51.100.3 timers connect 1\n neighbor 198.51.100.9 peer-group NOPE",
        1,
    );
    node.write(TEMPLATE, broken);
    let refused = ["verified: ", "Configure the peer-group first"];
    watched.is_kept_away_by(&refused).await;
    node.ok("ip link set test0 up; ip addr add 203.0.113.250/32 dev test0");
    let others = |message: &str| message.contains("test0") || message.contains("203.0.113.250");
    watched.says("False", "nothing else", |message| !others(message)).await;
    watched.is_kept_away_by(&refused).await;
    node.ok("ip link set test0 down; ip addr flush dev test0");
    node.write(TEMPLATE, template);
    watched.says("False", "verified again", |message| !message.contains("verified")).await;
    watched.is_kept_away_by(&["test0 is down"]).await;
    node.ok("systemctl stop frr; ip link set test0 up; ip addr add 203.0.113.250/32 dev test0");
    watched.says("False", "nothing but FRR", |message| !others(message)).await;
    watched.is_kept_away_by(&["frr: frr.service is inactive"]).await;
    node.ok("ip link set test0 down; ip addr flush dev test0; systemctl reset-failed frr; systemctl start frr");
    watched.says("False", "FRR runs again", |message| !message.contains("frr") && !message.contains("verified")).await;
    watched.is_kept_away_by(&["test0 is down"]).await;
    // From here on all holds.
    node.ok("ip link set test0 up; ip addr add 203.0.113.250/32 dev test0");
    let begin = Instant::now();
    until("the taints go", async || {
        // The cluster has taints of its own.
        let mut taints = watched.taints().await;
        taints.retain(|key| !key.starts_with("node.kubernetes.io/"));
        if taints == ["gpu", "other"] { Ok(()) } else { Err(format!("{taints:?}")) }
    })
    .await;
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    watched.says("True", "all pass", |message| message == "all checks pass").await;
    let seen = watched.get().await;
    assert_eq!(seen.metadata.labels.unwrap()["mine"], "1");
    let conditions = seen.status.unwrap().conditions.unwrap();
    let others = conditions.iter().filter(|condition| condition.type_ == "OfOthers" && condition.status == "True");
    assert_eq!(others.count(), 1, "what others say is as it was: {conditions:#?}");
}

/// Four others add taints and labels, while our taints come again and again, and go; then a hundred others at once.
async fn nothing_is_lost_of_a_hundred_edits(watched: &Watched<'_>) {
    let changed = || watched.node.says("changed the taints");
    let before = changed();
    let others = (0..4).map(async |other| {
        for round in 25 * other..25 * (other + 1) {
            let name = format!("edit-{round}");
            let taints = [taint(&name), taint(UNINITIALIZED[round % 2])];
            if watched.edit(&name, &taints).await.is_err() {
                watched.edit(&name, &taints[..1]).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    futures::future::join_all(others).await;
    assert!(changed() > before + 1, "the agent was at it meanwhile");
    let at_once = (100..200).map(async |other| {
        let name = format!("edit-{other}");
        let mut taints = vec![taint(&name)];
        taints.extend((other % 10 == 0).then(|| taint(UNINITIALIZED[other / 10 % 2])));
        loop {
            match watched.edit(&name, &taints).await {
                Ok(()) => break,
                // The API server has tried it five times.
                Err(kube::Error::Api(refused)) if refused.code == 409 => {}
                Err(_) if taints.len() > 1 => taints.truncate(1),
                Err(error) => panic!("{name}: {error}"),
            }
        }
    });
    futures::future::join_all(at_once).await;
    until("only ours have gone", async || {
        let taints = watched.taints().await;
        if taints.iter().any(|key| UNINITIALIZED.contains(&key.as_str())) { Err(format!("{taints:?}")) } else { Ok(()) }
    })
    .await;
    let (taints, node) = (watched.taints().await, watched.get().await);
    let labels = node.metadata.labels.unwrap();
    for edit in 0..200 {
        let name = format!("edit-{edit}");
        assert!(taints.contains(&name) && labels.contains_key(&name), "{name} is lost: {taints:?}");
    }
    assert!(taints.contains(&"gpu".to_owned()));
}

/// 100 addresses and 100 names: packets to both, and to the resolver, go into a dummy link and are gone.
async fn silent_hosts_and_a_silent_resolver_delay_nothing(watched: &Watched<'_>, server: &ApiServer) {
    let node = watched.node;
    node.ok("ip link add test1 up type dummy");
    node.ok("ip route add 192.0.2.192/28 dev test0; cp -L /etc/resolv.conf /run/resolv.kept || : >/run/resolv.kept; rm -f /etc/resolv.conf; echo nameserver 192.0.2.200 >/etc/resolv.conf");
    let addresses = (0..100).map(|number| format!("  - {{host: 192.0.2.201, port: {}}}\n", 1000 + number));
    let names = (0..100).map(|number| format!("  - {{host: host-{number}.example, port: 80}}\n"));
    let targets: String = addresses.chain(names).collect();
    node.write(
        FILE,
        format!("timeout: 1\nretries: 2\ninterval: 1\nfailures: 2\ninterfaces: [test1]\nreachability:\n{targets}"),
    );
    let begin = Instant::now();
    let bad = |message: &str| message.contains("192.0.2.201:1000 is not reachable") && message.contains("195 more");
    watched.says("False", "all of them", bad).await;
    // Two rounds of four times 64 targets, two attempts of a second each, and half as much again.
    assert!(begin.elapsed() < Duration::from_secs(24), "{:?}", begin.elapsed());
    // The other checks wait for none of them.
    let begin = Instant::now();
    node.ok("ip link set test1 down");
    watched.says("False", "the link, too", |message| message.contains("test1 is down")).await;
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    node.ok("ip link set test1 up");
    let begin = Instant::now();
    assert_eq!(probe(node, "/healthz"), "200 ok");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    // A window of one second, and a run under way.
    let soon = || told(node, 9342).of("debounce_wait_seconds_bucket{le=\"4.096\"}");
    let begun = soon();
    let applied = node.says(" applied ");
    server.kubectl(&["delete", "vrfrouteconfiguration", "--all"], "");
    // How long FRR's reload takes is no matter here.
    node.applied(applied, Duration::from_secs(180));
    assert!(soon() > begun, "its run waited for the targets");
    node.ok("rm /etc/resolv.conf; mv /run/resolv.kept /etc/resolv.conf; ip route del 192.0.2.192/28 dev test0");
}

async fn a_node_that_was_ready_is_marked_where_that_is_asked_for(watched: &Watched<'_>) {
    const OURS: &str = "network-operator.schiff.telekom.de/not-ready";
    let node = watched.node;
    node.write(FILE, "interfaces: [test0]\ninterval: 1\nfailures: 2\n");
    node.ok("ip link set test0 down");
    watched.says("False", "test0", |message| message.contains("test0 is down")).await;
    assert!(!watched.taints().await.contains(&OURS.to_owned()));
    node.write(FILE, "interfaces: [test0]\ninterval: 1\nfailures: 2\ntaintWhenUnready: true\n");
    let marked = async |wanted: bool| {
        until("our taint", async || {
            let taints = watched.taints().await;
            if taints.contains(&OURS.to_owned()) == wanted { Ok(()) } else { Err(format!("{taints:?}")) }
        })
        .await;
    };
    marked(true).await;
    node.ok("ip link set test0 up");
    marked(false).await;
    a_daemon_that_does_not_answer_and_sessions_that_are_down_are_told(watched).await;
    static_routes_that_nobody_hears_of_are_told(watched).await;
    node.write(FILE, "interfaces: [test0\n");
    watched.says("True", "a broken file", |message| message.contains("health file")).await;
    node.write(FILE, "interfaces: [test0]\n");
    watched.says("True", "all pass", |message| message == "all checks pass").await;
}

async fn a_daemon_that_does_not_answer_and_sessions_that_are_down_are_told(watched: &Watched<'_>) {
    let node = watched.node;
    node.write(FILE, "interfaces: [test0]\ninterval: 1\nfailures: 4\n");
    // Those who gave up keep their places in its queue.
    node.ok("pkill -x -STOP staticd");
    node.ok(&format!("python3 -c '{FILL}'"));
    let named = |message: &str| {
        message.contains("staticd did not answer `show version` within 5s") && !message.contains("mgmtd")
    };
    until("staticd, once", async || {
        let message = watched.condition().await.and_then(|condition| condition.message).unwrap_or_default();
        if named(&message) { Ok(()) } else { Err(message) }
    })
    .await;
    // Each run waits for staticd, fails, and is tried again: that is no excuse. This one begins a second after it was asked for.
    let (asked, ended) = (node.says(ASKED), node.says("run failed"));
    node.ok(&format!("touch {TEMPLATE}"));
    node.agent_says(ASKED, asked, Duration::from_secs(30));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(watched.condition().await.unwrap().status, "True", "before the run had begun");
    watched.says("False", "staticd", named).await;
    assert_eq!(node.says("run failed"), ended, "only once the run had ended");
    node.ok("pkill -x -CONT staticd");
    watched.says("True", "all pass", |message| message == "all checks pass").await;
    // It peers with leaves that are not there.
    node.write(
        FILE,
        "interfaces: [test0]\ninterval: 1\nfailures: 2\nbgpNeighbors: [\"198.51.100.*\"]\ntaints: [other]\n",
    );
    watched.says("False", "sessions", |message| message.contains("198.51.100.2 ")).await;
    assert!(watched.taints().await.contains(&"other".to_owned()));
    node.write(FILE, "interfaces: [test0]\ninterval: 1\nfailures: 2\ntaints: [other]\n");
    watched.says("True", "all pass", |message| message == "all checks pass").await;
    until("the taint that the file names goes", async || {
        let taints = watched.taints().await;
        if taints.contains(&"other".to_owned()) { Err(format!("{taints:?}")) } else { Ok(()) }
    })
    .await;
}

/// As watchfrr does it on a slow machine: a second mgmtd takes the sockets of the first, and ends. Who has a connection keeps it.
async fn static_routes_that_nobody_hears_of_are_told(watched: &Watched<'_>) {
    let node = watched.node;
    node.ok("/usr/lib/frr/mgmtd -d -A 127.0.0.1 || :; pkill -x -KILL staticd");
    watched.says("False", "staticd", |message| message.contains("staticd is not connected to mgmtd")).await;
    // It was started more often than the unit allows.
    node.ok("systemctl reset-failed frr; systemctl restart frr");
    watched.says("True", "all pass", |message| message == "all checks pass").await;
}

/// Without the kind nothing is known of what the node should run: a look at it finds nothing to do, and that proves nothing.
#[test]
fn a_node_whose_objects_cannot_be_listed_is_kept_away_until_they_can() {
    let bridge = Bridge::new();
    let (server, node) = ApiServer::with_node(&bridge);
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        server.kubectl(&["delete", "crd", "vrfrouteconfigurations.network.schiff.telekom.de"], "");
        a_tainted_node(&cluster, &node).await;
        let watched = Watched { nodes: Api::all(cluster.client.clone()), node: &node };
        node.write(KUBECONFIG, server.kubeconfig("agent"));
        let args = "--debounce 1s --check-interval 1s --input-limit 5s";
        let named = format!("-E KUBECONFIG={KUBECONFIG} -E OPERATOR_NETHEALTHCHECK_CONFIG={NAMED}");
        node.start_agent_with(args, &named);
        let missing = format!("health file: {NAMED} is not there, and was named");
        // Longer than the limit for inputs, and many looks at the node.
        for _ in 0..5 {
            watched.is_kept_away_by(&["verified: ", &missing]).await;
            assert!(probe(&node, "/readyz").starts_with("503 "));
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        server.kubectl(&["apply", "-f", "-"], &crd_yaml().unwrap());
        watched.says("False", "verified", |message| !message.contains("verified")).await;
        watched.is_kept_away_by(&[&missing]).await;
        node.write(NAMED, "interval: 1\n");
        until("the taints go", async || {
            let taints = watched.taints().await;
            if UNINITIALIZED.iter().all(|key| !taints.iter().any(|taint| taint == key)) {
                Ok(())
            } else {
                Err(format!("{taints:?}"))
            }
        })
        .await;
        assert_eq!(probe(&node, "/readyz"), "200 verified");
    });
}
