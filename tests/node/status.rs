//! What people see with kubectl: the words of each node, and their sum on the objects; with nodes of the lab, and with agents that have
//! no node beneath them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use network_operator::api::{NodeNetworkState, ObjectResult, ObjectState, VrfRouteConfiguration};
use tokio::time::Instant;

use crate::kube_api::KUBECONFIG;
use crate::lab::cluster::{Agent, Cluster, NAMESPACE, applied, state, until, webhook, with_server, words};
use crate::lab::{ApiServer, Bridge, Image, LAB_MANIFESTS, Node as LabNode, Spelling, lab_file};

fn with_cluster(work: impl AsyncFnOnce(Cluster, &ApiServer) + Send) {
    let bridge = Bridge::new();
    with_server(&ApiServer::start(&bridge), work);
}

#[test]
fn what_all_nodes_say_is_summed_up_by_one_agent_and_another_takes_over() {
    with_cluster(async |cluster: Cluster, server: &ApiServer| {
        let names: Vec<String> = (0..4).map(|n| format!("node-{n}")).collect();
        for name in &names {
            cluster.node(name, "True").await;
        }
        let (good, bad) = (cluster.object("good", 10).await, cluster.object("bad", 20).await);
        let agents: Vec<Agent> = names.iter().map(|name| Agent::start(&cluster.client, name)).collect();
        let why = "spec.vrf: the operator file has no VRF \"blue\"; add it";
        let rejected = state(&bad, ObjectResult::Rejected, "UnknownVrf", why);
        agents.iter().for_each(|agent| agent.says(vec![applied(&good), rejected.clone()]));

        let status = cluster.says("good", "4 of 4 nodes").await;
        assert_eq!(words(&status, "Accepted").0, "True");
        assert_eq!((status.observed_generation, status.nodes.applied, status.nodes.total), (Some(1), 4, 4));
        let status = cluster.objects.get("bad").await.unwrap().status.unwrap();
        assert_eq!(words(&status, "Accepted"), ("False".to_owned(), "UnknownVrf".to_owned(), why.to_owned()));
        let table = server.kubectl(&["get", "vrf", "--no-headers"], "");
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(6).collect()).collect();
        assert_eq!(rows, [["bad", "blue", "20", "False", "0", "4"], ["good", "blue", "10", "True", "4", "4"]]);
        let wide = server.kubectl(&["get", "vrf", "bad", "-o", "wide"], "");
        assert!(
            wide.contains("0 of 4 nodes; node-0: rejected; node-1: rejected; node-2: rejected; and 1 more"),
            "{wide}"
        );

        let events = server.kubectl(
            &["get", "events", "-o", "jsonpath={range .items[*]}{.involvedObject.name} {.reason}{'\\n'}{end}"],
            "",
        );
        let mut events: Vec<&str> = events.lines().collect();
        events.sort_unstable();
        assert_eq!(events, ["bad Rejected", "good Accepted", "good Applied"]);

        one_agent_leads(&agents);
        a_state_waits_for_its_node(&cluster, &good).await;
        nothing_new_is_not_written(&cluster, &agents, &[applied(&good), rejected.clone()]).await;
        a_node_that_fails_is_named_with_its_words(&cluster, &agents[3], &good).await;
        another_takes_over(&cluster, &agents, &good).await;
        a_node_that_is_silent_or_gone_does_not_count(&cluster, &good).await;
    });
}

fn one_agent_leads<'a>(agents: impl IntoIterator<Item = &'a Agent>) {
    let leaders = agents.into_iter().filter(|agent| *agent.leads.borrow()).count();
    assert_eq!(leaders, 1);
}

/// It would not go with it else.
async fn a_state_waits_for_its_node(cluster: &Cluster, good: &VrfRouteConfiguration) {
    let agent = Agent::start(&cluster.client, "late");
    agent.says(vec![applied(good)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let states: Api<NodeNetworkState> = Api::all(cluster.client.clone());
    assert!(states.get_opt("late").await.unwrap().is_none());
    cluster.node("late", "True").await;
    let state = until("its state", async || states.get_opt("late").await.unwrap().ok_or_else(String::new)).await;
    assert_eq!(state.metadata.owner_references.unwrap()[0].name, "late");
    agent.kill();
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.delete("late", &DeleteParams::default()).await.unwrap();
    states.delete("late", &DeleteParams::default()).await.unwrap();
    cluster.says("good", "4 of 4 nodes").await;
}

/// Everything that has a resource version, but for the Lease.
async fn versions(cluster: &Cluster) -> Vec<String> {
    let states: Api<NodeNetworkState> = Api::all(cluster.client.clone());
    let states = states.list(&Default::default()).await.unwrap().items;
    let objects = cluster.objects.list(&Default::default()).await.unwrap().items;
    let states = states.iter().map(|state| state.resource_version().unwrap());
    states.chain(objects.iter().map(|object| object.resource_version().unwrap())).collect()
}

async fn nothing_new_is_not_written(cluster: &Cluster, agents: &[Agent], objects: &[ObjectState]) {
    let before = versions(cluster).await;
    for _ in 0..3 {
        agents.iter().for_each(|agent| agent.says(objects.to_vec()));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(versions(cluster).await, before);
}

async fn a_node_that_fails_is_named_with_its_words(cluster: &Cluster, agent: &Agent, good: &VrfRouteConfiguration) {
    let words = "FRR does not take the new configuration; line 7: `vni x`: Unknown command";
    agent.says(vec![state(good, ObjectResult::Failed, "RunFailed", words)]);
    cluster.says("good", &format!("3 of 4 nodes; node-3: {words}")).await;
    let states: Api<NodeNetworkState> = Api::all(cluster.client.clone());
    let state = states.get(&agent.name).await.unwrap();
    let ready = state.status.unwrap().conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.message.as_str()), ("False", words));
    let owner = &state.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Node", agent.name.as_str()));
    agent.says(vec![applied(good)]);
    cluster.says("good", "4 of 4 nodes").await;
}

async fn another_takes_over(cluster: &Cluster, agents: &[Agent], good: &VrfRouteConfiguration) {
    let leader = agents.iter().position(|agent| *agent.leads.borrow()).unwrap();
    agents[leader].kill();
    let begin = Instant::now();
    let other = &agents[(leader + 1) % agents.len()];
    other.says(vec![state(good, ObjectResult::Failed, "RunFailed", "no FRR")]);
    cluster.says("good", &format!("3 of 4 nodes; {}: no FRR", other.name)).await;
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    one_agent_leads(agents.iter().filter(|agent| agent.name != agents[leader].name));
    other.says(vec![applied(good)]);
    cluster.says("good", "4 of 4 nodes").await;
}

async fn a_node_that_is_silent_or_gone_does_not_count(cluster: &Cluster, good: &VrfRouteConfiguration) {
    cluster.is_ready("node-2", "Unknown").await;
    cluster.says("good", "3 of 4 nodes; node-2: the node is not ready").await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.delete("node-2", &DeleteParams::default()).await.unwrap();
    let status = cluster.says("good", "3 of 3 nodes").await;
    assert_eq!(status.observed_generation, good.metadata.generation);
}

#[test]
fn three_nodes_say_what_they_run_and_one_that_stops_or_goes_is_seen() {
    let bridge = Bridge::new();
    let (mut server, nodes) = std::thread::scope(|scope| {
        let server = scope.spawn(|| ApiServer::start(&bridge));
        let images = [Image::Bookworm, Image::Trixie, Image::Trixie];
        let nodes = (1..).zip(images).map(|(number, image)| {
            let bridge = &bridge;
            scope.spawn(move || LabNode::numbered(bridge, image, Spelling::Plain, number))
        });
        let nodes: Vec<_> = nodes.collect();
        (server.join().unwrap(), nodes.into_iter().map(|node| node.join().unwrap()).collect::<Vec<LabNode>>())
    });
    // What belongs to an object that is gone is taken away, and a node that is not heard of any more is not ready.
    server.start_controllers("garbagecollector,nodelifecycle");
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        let alive = Arc::new(Mutex::new(BTreeSet::new()));
        for node in &nodes {
            cluster.node(node.name(), "True").await;
            alive.lock().unwrap().insert(node.name().to_owned());
            node.write(KUBECONFIG, server.kubeconfig("agent"));
            node.ok("echo '  green: 102' >>/tmp/green; sed -i '/^  red: 101/r /tmp/green' /opt/network-operator/config.yaml");
        }
        let kubelets = cluster.kubelets(alive.clone());
        nodes[1].ok("ip link add br.green type dummy");
        for node in &nodes {
            node.start_agent_with("--debounce 1s --check-interval 2s", &format!("-E KUBECONFIG={KUBECONFIG}"));
        }
        let all = LAB_MANIFESTS.map(|name| lab_file(&format!("manifests/{name}"))).join("---\n");
        server.kubectl(&["apply", "-f", "-"], &all);
        for name in ["blue-main", "blue-more", "red-main", "mgmt"] {
            cluster.says(name, "3 of 3 nodes").await;
        }
        // A look that finds nothing to do says nothing else.
        for _ in 0..10 {
            let states = server.kubectl(&["get", "nodenetworkstates", "-o", "json"], "");
            assert!(states.contains("Applied") && !states.contains("Failed"), "{states}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let table = server.kubectl(&["get", "nodenetworkstates", "--no-headers"], "");
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(5).collect()).collect();
        let row = |name, frr| [name, "True", "False", "2", frr];
        assert_eq!(rows, [row("node-1", "8.4.4"), row("node-2", "10.3"), row("node-3", "10.3")]);

        sessions_are_told(server).await;
        a_repair_is_an_event(server, &nodes[0]).await;
        // It ended before the session was there again.
        sessions_are_told(server).await;
        what_is_in_the_way_on_one_node_is_named(&cluster, server, &nodes[1]).await;
        a_node_that_stops_or_goes_is_seen(&cluster, server, &alive, &nodes[2]).await;
        an_agent_that_died_is_seen_with_the_next_change(&cluster, server, &nodes).await;
        kubelets.abort();
    });
}

async fn sessions_are_told(server: &ApiServer) {
    let query = "jsonpath={range .items[*].status.vrfs[*]}{.name} {.vni} {.up} {.sessionEstablished}{'\\n'}{end}";
    until("sessions of both VRFs on three nodes", async || {
        let told = server.kubectl(&["get", "nodenetworkstates", "-o", query], "");
        let expected = "blue 100 true true\nred 101 true true\n".repeat(3);
        if told == expected { Ok(()) } else { Err(told) }
    })
    .await;
}

async fn what_is_in_the_way_on_one_node_is_named(cluster: &Cluster, server: &ApiServer, node: &LabNode) {
    let green = "apiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {name: green}\nspec: {vrf: green, seq: 10, import: [], export: []}\n";
    server.kubectl(&["apply", "-f", "-"], green);
    until("green", async || {
        let status = cluster.objects.get("green").await.unwrap().status.unwrap_or_default();
        let (_, reason, message) = words(&status, "Applied");
        let named = message.starts_with("2 of 3 nodes; node-2: ") && message.contains("br.green");
        if reason == "Failed" && named { Ok(()) } else { Err(message) }
    })
    .await;
    let state = server.kubectl(&["get", "nodenetworkstate", "node-2", "--no-headers"], "");
    assert!(state.split_whitespace().nth(2) == Some("True"), "degraded: {state}");
    node.ok("ip link del br.green");
    cluster.says("green", "3 of 3 nodes").await;
}

async fn a_repair_is_an_event(server: &ApiServer, node: &LabNode) {
    node.ok("ip link del vd.blue");
    until("an event", async || {
        let told = server.kubectl(&["describe", "nodenetworkstate", node.name()], "");
        let event = told.lines().find(|line| line.contains("Repaired") && line.contains("vd.blue"));
        event.map(drop).ok_or(told)
    })
    .await;
}

async fn a_node_that_stops_or_goes_is_seen(
    cluster: &Cluster,
    server: &ApiServer,
    alive: &Mutex<BTreeSet<String>>,
    node: &LabNode,
) {
    node.ok("systemctl kill -s KILL network-operator");
    alive.lock().unwrap().remove(node.name());
    cluster.says("blue-main", "2 of 3 nodes; node-3: the node is not ready").await;
    server.kubectl(&["delete", "node", node.name()], "");
    cluster.says("blue-main", "2 of 2 nodes").await;
    until("it leaves nothing behind", async || {
        let left = server.kubectl(&["get", "nodenetworkstates", "-o", "name"], "");
        if left.lines().count() == 2 { Ok(()) } else { Err(left) }
    })
    .await;
}

async fn an_agent_that_died_is_seen_with_the_next_change(cluster: &Cluster, server: &ApiServer, nodes: &[LabNode]) {
    let holder = ["get", "lease", "network-operator", "-n", NAMESPACE, "-o", "jsonpath={.spec.holderIdentity}"];
    let leader = until("one of those that are there leads", async || {
        let name = server.kubectl(&holder, "");
        nodes[..2].iter().find(|node| node.name() == name).ok_or(name)
    })
    .await;
    leader.ok("systemctl kill -s KILL network-operator");
    let begin = Instant::now();
    server.kubectl(&["patch", "vrf", "red-main", "--type=merge", "-p", "{\"spec\": {\"community\": \"64510:7\"}}"], "");
    cluster.says("red-main", &format!("1 of 2 nodes; {}: not yet", leader.name())).await;
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
}

/// Seven ways to be bad that the schema cannot know: name, spec, field, reason, the value that the message names, and the spec when it is
/// mended.
const BAD: [(&str, &str, &str, &str, &str, &str); 7] = [
    (
        "bad-cidr",
        "vrf: blue, seq: 900, import: [{cidr: 10.0.0.1/8, action: permit}], export: []",
        "spec.import[0].cidr",
        "InvalidValue",
        "10.0.0.1/8",
        "vrf: blue, seq: 900, import: [{cidr: 10.0.0.0/8, action: permit}], export: []",
    ),
    (
        "bad-ge",
        "vrf: blue, seq: 901, import: [], export: [{cidr: 10.0.0.0/8, ge: 7, action: permit}]",
        "spec.export[0].ge",
        "InvalidValue",
        "7",
        "vrf: blue, seq: 901, import: [], export: [{cidr: 10.0.0.0/8, ge: 9, action: permit}]",
    ),
    (
        "bad-community",
        "vrf: blue, seq: 902, import: [], export: [], community: no router bgp",
        "spec.community",
        "InvalidValue",
        "no router bgp",
        "vrf: blue, seq: 902, import: [], export: [], community: '1:2'",
    ),
    (
        "bad-vrf",
        "vrf: nobody, seq: 903, import: [], export: []",
        "spec.vrf",
        "UnknownVrf",
        "nobody",
        "vrf: blue, seq: 903, import: [], export: []",
    ),
    (
        "bad-entry",
        "vrf: broken, seq: 904, import: [], export: []",
        "spec.vrf",
        "RefusedVrf",
        "99999999",
        "vrf: blue, seq: 904, import: [], export: []",
    ),
    (
        "bad-item",
        "vrf: blue, seq: 905, import: [], export: [{cidr: 10.0.0.0/8, seq: 2, action: deny}, {cidr: 11.0.0.0/8, action: deny}]",
        "spec.export[1].seq",
        "DuplicateItem",
        "2",
        "vrf: blue, seq: 905, import: [], export: [{cidr: 10.0.0.0/8, seq: 1, action: deny}, {cidr: 11.0.0.0/8, action: deny}]",
    ),
    (
        "bad-mtu",
        "vrf: blue, seq: 906, mtu: 1500, import: [], export: []",
        "spec.mtu",
        "ConflictingMtu",
        "1500",
        "vrf: blue, seq: 906, import: [], export: []",
    ),
];

fn manifest(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

#[test]
fn of_a_hundred_objects_eight_say_why_they_are_left_out_until_they_are_mended() {
    let bridge = Bridge::new();
    let (server, node) = ApiServer::with_node(&bridge);
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        node.write(
            "/opt/network-operator/config.yaml",
            "bpf: {notrack: false}\nvnimap: {blue: 100, red: 101, broken: 99999999}\n",
        );
        node.write(KUBECONFIG, server.kubeconfig("agent"));
        // A webhook that does not answer: all is stored, and the agents judge.
        server.kubectl(&["apply", "-f", "-"], &webhook("''"));
        let apply = |text: &str| drop(server.kubectl(&["apply", "-f", "-"], text));
        let good =
            |n: usize| format!("vrf: blue, seq: {n}, import: [{{cidr: 10.{n}.0.0/16, action: permit}}], export: []");
        let good: String = (1..=91).map(|n| manifest(&format!("good-{n:02}"), &good(n))).collect();
        apply(&(good + &manifest("rival-b", "vrf: red, seq: 10, import: [], export: []")));
        // Creation times are told in seconds.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let bad: String = BAD.iter().map(|(name, spec, ..)| manifest(name, spec)).collect();
        apply(&(bad + &manifest("rival-a", "vrf: red, seq: 10, import: [], export: []")));
        node.start_agent_with("--debounce 2s", &format!("-E KUBECONFIG={KUBECONFIG}"));

        cluster.says("rival-b", "1 of 1 nodes").await;
        until("92 are in force", async || counted(server, 92, 8)).await;
        let rival = ("rival-a", "spec.seq", "DuplicateSeq", "10");
        for (name, field, reason, value) in BAD.iter().map(|bad| (bad.0, bad.2, bad.3, bad.4)).chain([rival]) {
            let status = cluster.objects.get(name).await.unwrap().status.unwrap();
            let (accepted, said, message) = words(&status, "Accepted");
            assert_eq!((accepted.as_str(), said.as_str()), ("False", reason), "{name}: {message}");
            assert!(message.starts_with(&format!("{field}: ")) && message.contains(value), "{name}: {message}");
            let described = server.kubectl(&["describe", "vrf", name], "");
            assert!(described.contains(&message) && described.contains("Rejected"), "{described}");
        }

        let mended: String = BAD.iter().map(|(name, .., spec)| manifest(name, spec)).collect();
        apply(&(mended + &manifest("rival-a", "vrf: red, seq: 11, import: [], export: []")));
        for name in BAD.iter().map(|bad| bad.0).chain(["rival-a"]) {
            cluster.generation(name, 2, "1 of 1 nodes").await;
        }
        counted(server, 100, 0).unwrap();
    });
}

/// How many `kubectl get` says are accepted and applied, and how many are neither.
fn counted(server: &ApiServer, good: usize, bad: usize) -> Result<(), String> {
    let table = server.kubectl(
        &["get", "vrf", "--no-headers", "-o", "custom-columns=A:.status.conditions[0].status,N:.status.nodes.applied"],
        "",
    );
    let count = |row: [&str; 2]| table.lines().filter(|line| line.split_whitespace().eq(row)).count();
    if (count(["True", "1"]), count(["False", "0"])) == (good, bad) { Ok(()) } else { Err(table) }
}
