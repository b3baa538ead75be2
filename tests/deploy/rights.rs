//! The agents' rights: an API server that writes down what they ask for sees each of them used, and none missing.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::Client;
use network_operator::health::node::{NodeClient, condition};
use network_operator::health::{Readiness, Round};
use serde_json::{Value, json};

use crate::lab::cluster::{Agent, Cluster, until, with_server};
use crate::lab::{ApiServer, Bridge};
use crate::rendered::{chart, objects};

const AUDIT: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: Metadata, users: [agent]}\n- {level: None}\n";

/// A right: group, resource, verb.
type Right = (String, String, String);

fn granted() -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    for object in objects(&chart(&json!({}))["rbac.yaml"]) {
        for rule in object["rules"].as_array().into_iter().flatten() {
            let words = |key: &str| rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
            for (group, resource) in
                words("apiGroups").flat_map(|group| words("resources").map(move |resource| (group.clone(), resource)))
            {
                granted.extend(words("verbs").map(|verb| (group.clone(), resource.clone(), verb)));
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
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = [text(&object["resource"]), text(&object["subresource"])];
        let resource = resource.join("/").trim_end_matches('/').to_owned();
        if event["responseStatus"]["code"] == 403 {
            forbidden.push(event.to_string());
        }
        asked.insert((text(&object["apiGroup"]), resource, text(&event["verb"])));
    }
    (asked, forbidden)
}

#[test]
fn agents_use_each_of_their_rights_and_need_no_other() {
    let bridge = Bridge::new();
    let server = ApiServer::audited(&bridge, AUDIT);
    let granted = granted();
    assert!(granted.len() > 15, "{granted:?}");
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        let client = Client::try_from(server.config("agent")).unwrap();
        for name in ["node-1", "node-2", "node-3"] {
            cluster.node(name, "True").await;
        }
        cluster.object("blue", 10).await;
        // Of three that would take the Lease at once, two are too late, and look who has it.
        let _agents = ["node-1", "node-2", "node-3"].map(|name| Agent::obedient(&client, name));
        let node = NodeClient::new(client.clone(), "node-1");
        let taint = json!({"spec": {"taints": [{"key": "first", "effect": "NoSchedule"}]}});
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(cluster.client.clone());
        nodes.patch("node-1", &Default::default(), &kube::api::Patch::Merge(taint)).await.unwrap();
        let ready = Readiness::Ready { bad: None };
        let done = node.settle_taints(|key| key == "first", ready, || true, false).await.unwrap();
        assert_eq!(done, ["removed taint first"]);
        node.tell(&condition(ready, &Round::default(), None, jiff::Timestamp::now())).await.unwrap();
        let look = async || {
            let (asked, forbidden) = asked(&server.audit());
            assert_eq!(forbidden, [""; 0]);
            assert!(asked.is_subset(&granted), "{:?}", asked.difference(&granted));
            let unused: Vec<_> = granted.difference(&asked).collect();
            if unused.is_empty() { Ok(()) } else { Err(format!("{unused:?}")) }
        };
        until("nobody asked for", look).await;
        // A renewal of the Lease later, nothing else was asked for.
        tokio::time::sleep(Duration::from_secs(6)).await;
        look().await.unwrap();
    });
}
