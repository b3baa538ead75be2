//! The rights of agents and webhook: an API server that writes down what they ask for sees each of them used, and none missing.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::Patch;
use kube::{Api, Client};
use network_operator::health::node::{CONDITION, NodeClient, condition};
use network_operator::health::{Readiness, Round};
use serde_json::{Value, json};

use crate::lab::cluster::{Agent, Cluster, rights_of_routers, until, with_server};
use crate::lab::{ApiServer, Bridge};
use crate::rendered::{chart, objects};

pub(crate) const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: Metadata, users: [agent, router, webhook]}\n- {level: None}\n";

/// A right; the namespace is that of a Role, the name that of the only object that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) verb: String,
    namespace: String,
    name: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a template of the chart grants.
pub(crate) fn granted(template: &str) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    let everything = json!({"onlyAttachBpf": {"enabled": true}, "webhook": {"enabled": true}});
    for object in objects(&chart(&everything)[template]) {
        let namespace = text(&object["metadata"]["namespace"]);
        for rule in object["rules"].as_array().into_iter().flatten() {
            let words = |key: &str| rule[key].as_array().into_iter().flatten().map(text);
            let names: Vec<String> = words("resourceNames").collect();
            assert!(names.len() < 2, "{rule}");
            for (group, resource) in
                words("apiGroups").flat_map(|group| words("resources").map(move |of| (group.clone(), of)))
            {
                granted.extend(words("verbs").map(|verb| Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb,
                    namespace: namespace.clone(),
                    name: names.concat(),
                }));
            }
        }
    }
    granted
}

/// What was asked for, and what of it was forbidden.
fn asked(log: &str) -> (BTreeSet<Right>, Vec<String>) {
    let (mut asked, mut forbidden) = (BTreeSet::new(), Vec::new());
    // The last line may be half written.
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(object) = event.get("objectRef") else { continue };
        let resource = [text(&object["resource"]), text(&object["subresource"])];
        let resource = resource.join("/").trim_end_matches('/').to_owned();
        if event["responseStatus"]["code"] == 403 {
            forbidden.push(event.to_string());
        }
        let (namespace, name) = (text(&object["namespace"]), text(&object["name"]));
        asked.insert(Right { group: text(&object["apiGroup"]), resource, verb: text(&event["verb"]), namespace, name });
    }
    (asked, forbidden)
}

/// Whether the right covers what was asked for.
fn covers(right: &Right, asked: &Right) -> bool {
    let name = if right.name.is_empty() { String::new() } else { asked.name.clone() };
    *right == Right { name, ..asked.clone() }
}

/// What was asked for without a right to it, and rights to what nobody asked for.
fn differences<'a>(granted: &'a BTreeSet<Right>, asked: &'a BTreeSet<Right>) -> [Vec<&'a Right>; 2] {
    let missing = asked.iter().filter(|asked| !granted.iter().any(|right| covers(right, asked)));
    let unused = granted.iter().filter(|right| !asked.iter().any(|asked| covers(right, asked)));
    [missing.collect(), unused.collect()]
}

/// Waits until each right has been used. Nothing else is asked for, also not a renewal of the Lease later.
pub(crate) async fn all_are_used(server: &ApiServer, granted: &BTreeSet<Right>) {
    let look = async || {
        let (asked, forbidden) = asked(&server.audit());
        assert_eq!(forbidden, [""; 0]);
        let [missing, unused] = differences(granted, &asked);
        assert!(missing.is_empty(), "{missing:?}");
        if unused.is_empty() { Ok(asked) } else { Err(format!("{unused:?}\n{}", server.log_of("router"))) }
    };
    until("nobody asked for", look).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let asked = look().await.unwrap();
    for right in granted {
        let mut fewer = granted.clone();
        fewer.remove(right);
        let [missing, _] = differences(&fewer, &asked);
        assert!(!missing.is_empty(), "nobody would miss {right:?}");
    }
}

/// Takes the Lease away until one of those that would have it at once is too late, and looks who has it: most hear of that in time.
async fn lease_is_contested(server: &ApiServer, cluster: &Cluster) {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-system");
    let looked = async || {
        let (asked, _) = asked(&server.audit());
        if asked.iter().any(|right| right.resource == "leases" && right.verb == "get") {
            return Ok(());
        }
        let taken = leases.delete("network-operator", &Default::default()).await.is_ok();
        // Each waits for less than two seconds then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Err(format!("taken away: {taken}"))
    };
    until("nobody was too late for the Lease", looked).await;
}

/// Gives a Node this taint, and no other.
async fn taint(nodes: &Api<Node>, name: &str, key: &str) {
    let taint = json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
    nodes.patch(name, &Default::default(), &Patch::Merge(taint)).await.unwrap();
}

#[test]
fn agents_use_each_of_their_rights_and_need_no_other() {
    let bridge = Bridge::new();
    let server = ApiServer::audited(&bridge, AUDIT);
    let granted = granted("rbac.yaml");
    assert!(granted.len() > 15, "{granted:?}");
    // The API server cannot know the name of what is not there yet.
    let leases = granted.iter().filter(|right| right.resource == "leases" && right.verb != "create");
    leases.for_each(|right| assert_eq!(right.name, "network-operator", "{right:?}"));
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        let client = Client::try_from(server.config("agent")).unwrap();
        for name in ["node-1", "node-2", "node-3"] {
            cluster.node(name, "True").await;
        }
        cluster.object("blue", 10).await;
        let _agents = ["node-1", "node-2", "node-3"].map(|name| Agent::obedient(&client, name));
        let node = NodeClient::new(client.clone(), "node-1");
        taint(&Api::all(cluster.client.clone()), "node-1", "first").await;
        let ready = Readiness::Ready { bad: None };
        let done = node.settle_taints(|key| key == "first", ready, || true, false).await.unwrap();
        assert_eq!(done, ["removed taint first"]);
        node.tell(&condition(ready, &Round::default(), None, jiff::Timestamp::now())).await.unwrap();
        lease_is_contested(server, &cluster).await;
        all_are_used(server, &granted).await;
    });
}

#[test]
fn an_agent_of_the_router_alone_uses_each_of_its_rights_and_needs_no_other() {
    let bridge = Bridge::new();
    let server = ApiServer::audited(&bridge, AUDIT);
    let granted = granted("only-attach-bpf-rbac.yaml");
    let resources: BTreeSet<&str> = granted.iter().map(|right| right.resource.as_str()).collect();
    assert_eq!(resources, BTreeSet::from(["nodes", "nodes/status"]));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), "bpfInterfaces: [port]\n").unwrap();
    fs::write(folder.path().join("health.yaml"), "taints: [first]\n").unwrap();
    server.kubectl(&["apply", "-f", "-"], &rights_of_routers());
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        cluster.node("node-1", "True").await;
        let nodes: Api<Node> = Api::all(cluster.client.clone());
        taint(&nodes, "node-1", "first").await;
        let mut router = server.start_router("node-1", folder.path());
        all_are_used(server, &granted).await;
        // It has done with them what they are for.
        let node = nodes.get("node-1").await.unwrap();
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        assert!(taints.iter().all(|taint| taint.key != "first"), "{taints:?}");
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == CONDITION);
        assert_eq!(ready.map(|ready| ready.status.as_str()), Some("True"), "{conditions:?}");
        router.kill().unwrap();
        router.wait().unwrap();
    });
}
