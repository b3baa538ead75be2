//! `status`: what all nodes make of all objects, at a glance.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::Output;
use crate::api::{LastRun, NodeCounts, NodeNetworkState, RunState};
use crate::status::collect::{status_of, subjects};
use crate::status::known::{Heard, Known};
use crate::trigger::kube::patient;

/// How long the first change waits for others before it is shown.
const WINDOW: Duration = Duration::from_millis(300);

/// Shows which objects are in force on how many nodes, and how each node is
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the API server, as kubectl does (KUBECONFIG); needs get, list and, with --watch, watch on vrfrouteconfigurations and
nodenetworkstates.
Exit code: 0 where every object is applied on every node and every node is ready; 2 where not; 1 where nobody could be asked.

Examples:
  network-operator status
  network-operator status --watch
  network-operator status --output json | jq '.objects[] | select(.applied != \"True\")'")]
pub(super) struct StatusArgs {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Shows it anew whenever something changes, until it is interrupted
    #[arg(long)]
    watch: bool,
}

/// All that is shown.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Glance {
    objects: Vec<ObjectRow>,
    nodes: Vec<NodeRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRow {
    name: String,
    vrf: String,
    seq: Option<i64>,
    accepted: String,
    applied: String,
    nodes: NodeCounts,
    /// Why it is not accepted or not applied everywhere.
    message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeRow {
    name: String,
    ready: String,
    degraded: String,
    vrfs: u32,
    frr_version: Option<String>,
    configuration: Option<String>,
    last_run: Option<LastRun>,
}

pub(super) fn execute(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let StatusArgs { output, watch } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::try_default().await.context("find the API server: set KUBECONFIG")?;
        if watch { follow(client, output).await } else { once(client, output).await }
    })
}

async fn once(client: Client, output: Output) -> anyhow::Result<ExitCode> {
    let all = ListParams::default();
    let objects = subjects(&client).list(&all).await.context("list VRFRouteConfigurations")?;
    let nodes = Api::<NodeNetworkState>::all(client).list(&all).await.context("list NodeNetworkStates")?;
    let glance = Glance {
        objects: objects.items.iter().map(ObjectRow::new).collect(),
        nodes: nodes.items.iter().map(NodeRow::new).collect(),
    };
    glance.print(output)?;
    Ok(if glance.is_good() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

async fn follow(client: Client, output: Output) -> anyhow::Result<ExitCode> {
    let config = watcher::Config::default;
    let mut objects = Box::pin(patient(watcher(subjects(&client), config())));
    let mut nodes = Box::pin(patient(watcher(Api::<NodeNetworkState>::all(client), config())));
    let (mut object_rows, mut node_rows) = (Known::default(), Known::default());
    let mut shown = None;
    let mut due = None;
    loop {
        let heard = tokio::select! {
            Some(event) = objects.next() => object_rows.hear(event, ObjectRow::new),
            Some(event) = nodes.next() => node_rows.hear(event, NodeRow::new),
            () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                due = None;
                let objects = object_rows.all.values().cloned().collect();
                let glance = Glance { objects, nodes: node_rows.all.values().cloned().collect() };
                if shown.as_ref() != Some(&glance) {
                    if std::io::stdout().is_terminal() {
                        write!(std::io::stdout(), "\x1b[H\x1b[2J")?;
                    }
                    glance.print(output)?;
                    shown = Some(glance);
                }
                continue;
            }
            else => return Ok(ExitCode::SUCCESS),
        };
        if let Heard::Error(error) = heard {
            writeln!(std::io::stderr(), "network-operator: {error}; it is tried again")?;
        }
        if object_rows.complete && node_rows.complete {
            due.get_or_insert_with(|| tokio::time::Instant::now() + WINDOW);
        }
    }
}

fn word_of(conditions: &[Condition], kind: &str) -> String {
    let condition = conditions.iter().find(|condition| condition.type_ == kind);
    condition.map_or("Unknown", |condition| condition.status.as_str()).to_owned()
}

impl ObjectRow {
    fn new(object: &DynamicObject) -> Self {
        let status = status_of(object);
        let current = status.observed_generation == object.metadata.generation;
        let of = |kind| if current { word_of(&status.conditions, kind) } else { "Unknown".to_owned() };
        let bad =
            |kind| status.conditions.iter().find(|condition| condition.type_ == kind && condition.status != "True");
        let message = match bad("Accepted").or_else(|| bad("Applied")) {
            _ if !current => "nothing is said of this generation yet".to_owned(),
            Some(condition) => condition.message.clone(),
            None => String::new(),
        };
        Self {
            name: object.name_any(),
            vrf: object.data.pointer("/spec/vrf").and_then(|vrf| vrf.as_str()).unwrap_or("?").to_owned(),
            seq: object.data.pointer("/spec/seq").and_then(serde_json::Value::as_i64),
            accepted: of("Accepted"),
            applied: of("Applied"),
            nodes: status.nodes,
            message,
        }
    }
}

impl NodeRow {
    fn new(state: &NodeNetworkState) -> Self {
        let status = state.status.clone().unwrap_or_default();
        Self {
            name: state.name_any(),
            ready: word_of(&status.conditions, "Ready"),
            degraded: word_of(&status.conditions, "Degraded"),
            vrfs: status.vrf_count,
            frr_version: status.frr_version,
            configuration: status.configuration,
            last_run: status.last_run,
        }
    }
}

impl Glance {
    fn is_good(&self) -> bool {
        self.objects.iter().all(|row| row.applied == "True") && self.nodes.iter().all(|row| row.ready == "True")
    }

    fn print(&self, output: Output) -> anyhow::Result<()> {
        let text = self.text(Timestamp::now())?;
        output.print(self, |out| out.write_all(text.as_bytes()))
    }

    fn text(&self, now: Timestamp) -> std::io::Result<String> {
        let Self { objects, nodes } = self;
        let mut table = tabwriter::TabWriter::new(Vec::new()).padding(3);
        let count = |good: usize, all: usize, what: &str| format!("{good} of {all} {what}");
        let applied = objects.iter().filter(|row| row.applied == "True").count();
        let ready = nodes.iter().filter(|row| row.ready == "True").count();
        let objects_line = count(applied, objects.len(), "objects applied on every node");
        writeln!(table, "{objects_line}; {}\n", count(ready, nodes.len(), "nodes ready"))?;
        writeln!(table, "OBJECT\tVRF\tSEQUENCE\tACCEPTED\tAPPLIED\tMESSAGE")?;
        for ObjectRow { name, vrf, seq, accepted, applied: _, nodes, message } in objects {
            let seq = seq.map_or_else(|| "?".to_owned(), |seq| seq.to_string());
            let NodeCounts { applied, total, .. } = nodes;
            writeln!(table, "{name}\t{vrf}\t{seq}\t{accepted}\t{applied}/{total}\t{message}")?;
        }
        writeln!(table, "\nNODE\tREADY\tDEGRADED\tVRFS\tFRR\tCONFIGURATION\tLAST RUN")?;
        for NodeRow { name, ready, degraded, vrfs, frr_version, configuration, last_run } in nodes {
            let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
            let (frr, configuration) = (word(frr_version), word(configuration));
            let run = last_run.as_ref().map_or_else(|| "none".to_owned(), |run| last(run, now));
            writeln!(table, "{name}\t{ready}\t{degraded}\t{vrfs}\t{frr}\t{configuration}\t{run}")?;
        }
        let text = table.into_inner().map_err(|error| std::io::Error::other(error.error().to_string()))?;
        Ok(String::from_utf8_lossy(&text).lines().map(|line| line.trim_end().to_owned() + "\n").collect())
    }
}

/// `Succeeded 3m ago`, with what failed.
fn last(run: &LastRun, now: Timestamp) -> String {
    let ago = now.duration_since(run.start.0).as_secs().max(0);
    let ago = match ago {
        0..=119 => format!("{ago}s"),
        120..=7199 => format!("{}m", ago / 60),
        7200..=172_799 => format!("{}h", ago / 3600),
        _ => format!("{}d", ago / 86400),
    };
    let why = if run.result == RunState::Failed { format!(": {}", run.message) } else { String::new() };
    format!("{:?} {ago} ago{why}", run.result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_glance_says_what_is_in_force_and_what_is_in_the_way() {
        let condition = |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "reason": "R", "message": message, "lastTransitionTime": "2026-01-02T03:04:05Z"});
        let object = |name: &str, generation: i64, message: &str| -> DynamicObject {
            let good = if message.is_empty() { "True" } else { "False" };
            serde_json::from_value(json!({
                "metadata": {"name": name, "generation": generation}, "spec": {"vrf": "blue", "seq": 10},
                "status": {"observedGeneration": 1, "nodes": {"applied": 1, "rejected": 0, "failed": 1, "total": 2},
                    "conditions": [condition("Accepted", "True", ""), condition("Applied", good, message)]},
            }))
            .unwrap()
        };
        let node: NodeNetworkState = serde_json::from_value(json!({
            "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "NodeNetworkState", "metadata": {"name": "node-1"}, "spec": {},
            "status": {"agentVersion": "1", "frrVersion": "10.3", "configuration": "0123", "vrfCount": 2,
                "conditions": [condition("Ready", "False", "x"), condition("Degraded", "True", "x")],
                "lastRun": {"start": "2026-01-02T03:04:05Z", "durationMillis": 5, "result": "Failed", "message": "FRR refuses it"}},
        }))
        .unwrap();
        let objects = [object("a", 1, ""), object("b", 1, "1 of 2 nodes; node-1: FRR refuses it"), object("c", 2, "")];
        let glance = Glance { objects: objects.iter().map(ObjectRow::new).collect(), nodes: vec![NodeRow::new(&node)] };
        let now: Timestamp = "2026-01-02T03:08:05Z".parse().unwrap();
        let expected = "\
1 of 3 objects applied on every node; 0 of 1 nodes ready

OBJECT   VRF    SEQUENCE   ACCEPTED   APPLIED   MESSAGE
a        blue   10         True       1/2
b        blue   10         True       1/2       1 of 2 nodes; node-1: FRR refuses it
c        blue   10         Unknown    1/2       nothing is said of this generation yet

NODE     READY   DEGRADED   VRFS   FRR    CONFIGURATION   LAST RUN
node-1   False   True       2      10.3   0123            Failed 4m ago: FRR refuses it
";
        assert_eq!(glance.text(now).unwrap(), expected);
        assert!(!glance.is_good());
    }
}
