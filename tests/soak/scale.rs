//! What hundreds of agents cost the API server: each with a client of its own, and no node beneath it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::lab::cluster::{Agent, Cluster, with_server};
use crate::lab::{ApiServer, Bridge};
use crate::progress::scaled;

const AGENTS: usize = 500;
const OBJECTS: usize = 20;
const CHANGES: usize = 5;

/// Requests by verb and resource, as the server counts them: a watch when it ends.
type Requests = BTreeMap<(String, String), u64>;

/// What the agents ask for.
fn requests(server: &ApiServer) -> Requests {
    let mut requests = Requests::new();
    for line in server.kubectl(&["get", "--raw", "/metrics"], "").lines() {
        let Some(labels) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, count)) = labels.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            let value = labels.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
            value.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
        };
        let (verb, resource) = (label("verb"), label("resource"));
        if ["vrfrouteconfigurations", "nodenetworkstates", "leases", "events", "nodes"].contains(&resource.as_str()) {
            *requests.entry((verb, resource)).or_default() += count.parse::<f64>().unwrap() as u64;
        }
    }
    requests
}

/// What was asked for since.
fn since(before: &Requests, after: &Requests) -> Requests {
    let new = after.iter().map(|(key, count)| (key.clone(), count - before.get(key).copied().unwrap_or_default()));
    new.filter(|(_, count)| *count > 0).collect()
}

fn sum(requests: &Requests, verbs: &[&str], but: &str) -> u64 {
    requests
        .iter()
        .filter(|((verb, resource), _)| verbs.contains(&verb.as_str()) && resource != but)
        .map(|(_, count)| count)
        .sum()
}

const WRITES: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
const ALL: [&str; 7] = ["GET", "LIST", "WATCH", "POST", "PUT", "PATCH", "DELETE"];

fn shown(requests: &Requests) -> String {
    let each = requests.iter().map(|((verb, resource), count)| format!("{verb} {resource} {count}"));
    each.collect::<Vec<_>>().join(", ")
}

#[test]
fn five_hundred_agents_cost_the_api_server_one_write_each_for_a_change() {
    let count = scaled(AGENTS);
    let bridge = Bridge::new();
    let server = ApiServer::start(&bridge);
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        for name in (0..count).map(|n| format!("node-{n}")) {
            cluster.node(&name, "True").await;
        }
        for n in 0..OBJECTS {
            cluster.object(&format!("o{n:02}"), 10 + n as i64).await;
        }
        let all = format!("{count} of {count} nodes");
        let start = || (0..count).map(|n| Agent::obedient(&client(server), &format!("node-{n}"))).collect::<Vec<_>>();
        let (before, begin) = (requests(server), Instant::now());
        let agents = start();
        every_object_says(&cluster, &all).await;
        let first = since(&before, &requests(server));
        println!("[scale] {count} agents started in {}s: {}", begin.elapsed().as_secs(), shown(&first));

        let (mut asked, mut written, mut slowest) = (0, 0, Duration::ZERO);
        for change in 0..CHANGES {
            let (before, begin) = (requests(server), Instant::now());
            let patch = json!({"spec": {"community": format!("64510:{change}")}});
            let patch = Patch::Merge(&patch);
            cluster.objects.patch("o00", &PatchParams::default(), &patch).await.unwrap();
            cluster.generation("o00", 2 + change as i64, &all).await;
            slowest = slowest.max(begin.elapsed());
            let cost = since(&before, &requests(server));
            println!("[scale] a change in {:.1}s: {}", begin.elapsed().as_secs_f32(), shown(&cost));
            // The reads of the objects are those of this test, the Lease is renewed whether or not anything changes.
            let read = cost.get(&("GET".to_owned(), "vrfrouteconfigurations".to_owned())).copied().unwrap_or_default();
            asked += sum(&cost, &ALL, "leases") - read;
            written += sum(&cost, &["PATCH"], "vrfrouteconfigurations");
        }
        let per_agent = asked as f64 / (count * CHANGES) as f64;
        assert!(per_agent <= 2.0, "{per_agent}");
        assert!(written <= (count * CHANGES + CHANGES) as u64, "{written}");

        agents.iter().for_each(Agent::kill);
        drop(agents);
        let before = requests(server);
        let agents = start();
        // All have read what there is, and somebody leads again.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let restart = since(&before, &requests(server));
        println!("[scale] all restarted at once: {}", shown(&restart));
        let storm = sum(&restart, &WRITES, "leases");
        assert!(storm <= count as u64 / 10, "{storm} writes: {}", shown(&restart));
        let asked_at_start = sum(&restart, &ALL, "");
        println!(
            "SOAK scale: {count} agents, {OBJECTS} objects: {per_agent:.2} requests per agent and change, the slowest change everywhere in {:.1}s; \
             all restarted at once: {storm} writes, {:.1} requests each",
            slowest.as_secs_f32(),
            asked_at_start as f64 / count as f64
        );
        agents.iter().for_each(Agent::kill);
    });
}

fn client(server: &ApiServer) -> Client {
    Client::try_from(server.config("agent")).unwrap()
}

async fn every_object_says(cluster: &Cluster, words: &str) {
    for n in 0..OBJECTS {
        cluster.says(&format!("o{n:02}"), words).await;
    }
}
