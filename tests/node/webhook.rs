//! The webhook over TLS behind the real API server: the verdicts of `validate`, renewed certificates, and the cluster without it.
#![allow(clippy::print_stdout, reason = "the figures belong to the result")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use network_operator::api::VrfRouteConfiguration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::certificate::{authorities, certify, documented};
use crate::lab::cluster::{Cluster, until, webhook, with_server};
use crate::lab::random::Random;
use crate::lab::{ApiServer, Bridge, HOST};

const OPERATOR_FILE: &str = "vnimap: {a: 100, b: 101, c: 102, broken: 99999999}\nskipVRFConfig: [fabric]\n";
/// Without a place for IPv6 neighbors.
const TEMPLATE: &str = "#++{{.VRFs}}\nrouter bgp 1\n#++{{.Neighbors}}\n address-family ipv4 unicast\n#++{{.NeighborsV4}}\n exit-address-family\nexit\n#++{{.BGP}}\n#++{{.PrefixLists}}\n#++{{.RouteMaps}}\n";
const OURS: &str = "admission webhook \"vrfrouteconfigurations.network.schiff.telekom.de\" denied the request: ";

/// The webhook's folder and process.
struct Webhook {
    folder: tempfile::TempDir,
    process: Child,
}

impl Webhook {
    fn start(server: &ApiServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.yaml"), OPERATOR_FILE).unwrap();
        fs::write(folder.path().join("frr.conf.tpl"), TEMPLATE).unwrap();
        certify(folder.path());
        let process = server.start_webhook(folder.path());
        server.kubectl(&["apply", "-f", "-"], &webhook(&authorities(folder.path(), &["ca.crt"])));
        Self { folder, process }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// As a rolling update does.
    fn terminate(&self) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn object(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
        "metadata": {"name": name}, "spec": spec,
    })
}

fn bad(name: &str) -> Value {
    object(name, json!({"vrf": "nobody", "seq": 1, "import": [], "export": []}))
}

fn api(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<VrfRouteConfiguration>(&()))
}

/// Stores an object, or gives the words that it is refused with.
async fn store(api: &Api<DynamicObject>, object: &Value, dry_run: bool) -> Result<(), String> {
    let object = serde_json::from_value(object.clone()).unwrap();
    let params = PostParams { dry_run, ..PostParams::default() };
    match api.create(&params, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

async fn is_asked(api: &Api<DynamicObject>, server: &ApiServer) {
    until("the webhook is asked", async || match store(api, &bad("probe"), true).await {
        Err(words) if words.starts_with(OURS) => Ok(()),
        other => Err(format!("{other:?}\n{}", server.log_of("network-operator"))),
    })
    .await;
}

#[test]
fn a_thousand_objects_get_the_verdicts_of_validate_and_renewals_lose_no_request() {
    let bridge = Bridge::new();
    let server = ApiServer::start(&bridge);
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        let mut webhook = Webhook::start(server);
        let api = api(&cluster.client);
        is_asked(&api, server).await;
        verdicts_are_those_of_validate(&api, &webhook).await;
        renewals_lose_no_request(&api, &webhook, server).await;
        without_it_all_is_stored_and_with_it_mended(&api, &mut webhook, server).await;
    });
}

/// A spec, bad in one of its fields now and then.
fn spec(random: &mut Random) -> Value {
    let one_of = |random: &mut Random, bad_in: u64, good: &[Value], bad: &[Value]| {
        let from = if random.below(bad_in) == 0 { bad } else { good };
        from[random.below(from.len() as u64) as usize].clone()
    };
    let list = |random: &mut Random| {
        let items = (0..random.below(4)).map(|n| {
            let v4 = json!(format!("10.{}.0.0/16", random.below(256)));
            let cidr = one_of(random, 30, &[v4], &[json!("10.0.0.1/16"), json!("2001:db8::/32"), json!("10.0.0.0/33")]);
            let mut item = json!({"cidr": cidr, "action": "permit"});
            for (name, good, bad, bad_in) in [("ge", 20, 9, 30), ("le", 24, 15, 30), ("seq", n + 7, 7, 5)] {
                if random.below(3) == 0 {
                    item[name] = one_of(random, bad_in, &[json!(good)], &[json!(bad), json!(0)]);
                }
            }
            item
        });
        Value::Array(items.collect())
    };
    let mut spec = json!({"seq": 1 + random.below(700), "import": list(random), "export": list(random)});
    spec["vrf"] = one_of(
        random,
        20,
        &["a", "b", "c", "fabric"].map(|vrf| json!(vrf)),
        &["nobody", "broken", "much-too-long"].map(|vrf| json!(vrf)),
    );
    if random.below(20) == 0 {
        spec["mtu"] = one_of(random, 3, &[json!(9000)], &[json!(1500), json!(100), json!("wide")]);
    }
    if random.below(4) == 0 {
        let bad = ["64510", "64510:100\n!", "1:2:3", "99999:1"].map(|bad| json!(bad));
        spec["community"] = one_of(random, 8, &[json!("64510:100"), json!("no-export")], &bad);
    }
    if random.below(6) == 0 {
        let net = json!(format!("192.168.{}.0/24", random.below(256)));
        spec["aggregate"] = json!([one_of(random, 8, &[net], &[json!("192.168.0.1/24"), json!("2001:db8::/48")])]);
    }
    spec
}

/// What `validate` says of each object.
fn validated(webhook: &Webhook, objects: &[Value]) -> BTreeMap<String, Option<String>> {
    fs::write(webhook.path("all.json"), json!({"kind": "List", "apiVersion": "v1", "items": objects}).to_string())
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_network-operator"))
        .current_dir(webhook.folder.path())
        .args([
            "validate",
            "--config",
            "config.yaml",
            "--template",
            "frr.conf.tpl",
            "-f",
            "all.json",
            "--output",
            "json",
        ])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdicts = report["objects"].as_array().unwrap().iter().map(|verdict| {
        let why = &verdict["rejection"];
        let text = |name: &str| why[name].as_str().unwrap_or_default();
        let words = format!(
            "{}: {}: {}; {} ({})",
            text("object"),
            text("field"),
            text("message"),
            text("cure"),
            text("reason")
        );
        (verdict["name"].as_str().unwrap().to_owned(), why.is_object().then_some(words))
    });
    verdicts.collect()
}

async fn verdicts_are_those_of_validate(api: &Api<DynamicObject>, webhook: &Webhook) {
    let mut random = Random(2026);
    let objects: Vec<Value> = (0..1000).map(|n| object(&format!("object-{n:04}"), spec(&mut random))).collect();
    let verdicts = validated(webhook, &objects);
    assert_eq!(verdicts.len(), 1000);
    let mut reasons = BTreeMap::new();
    for object in &objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        let expected = &verdicts[name];
        let said = until(name, async || {
            let said = store(api, object, false).await.err();
            if said.is_some() == expected.is_some() {
                return Ok(said);
            }
            assert_eq!(said, None, "a good one is never denied: {object}");
            // The one before may not have come to the webhook yet.
            api.delete(name, &Default::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            Err(format!("stored, and not {expected:?}: {object}"))
        })
        .await;
        // Others are refused by the schema.
        if let (Some(said), Some(expected)) = (said.as_deref().and_then(|said| said.strip_prefix(OURS)), expected) {
            assert_eq!(said, expected);
            let reason = expected.rsplit(['(', ')']).nth(1).unwrap();
            *reasons.entry(reason.to_owned()).or_insert(0) += 1;
        }
    }
    println!("denied: {reasons:?} of {} bad ones", verdicts.values().flatten().count());
    let all = [
        "ConflictingMtu",
        "DuplicateAggregate",
        "DuplicateItem",
        "DuplicateSeq",
        "InvalidValue",
        "NoIpv6Hint",
        "RefusedVrf",
        "UnknownVrf",
    ];
    assert_eq!(reasons.keys().map(String::as_str).collect::<Vec<_>>(), all);
    let stored = api.list(&Default::default()).await.unwrap().items.len();
    assert_eq!(stored, verdicts.values().filter(|verdict| verdict.is_none()).count());
    assert!(stored > 300, "{stored}");
}

/// The serial number of the certificate that is served.
fn served(server: &ApiServer) -> String {
    let connect = format!("{HOST}:9443");
    let output = server.command("openssl").args(["s_client", "-connect", &connect]).output().unwrap();
    let certificate = tempfile::NamedTempFile::new().unwrap();
    fs::write(certificate.path(), &output.stdout).unwrap();
    serial(certificate.path())
}

fn serial(certificate: &Path) -> String {
    let output = Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(certificate).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn renewals_lose_no_request(api: &Api<DynamicObject>, webhook: &Webhook, server: &ApiServer) {
    let (ended, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let requests = async {
        while !ended.load(Ordering::Relaxed) {
            // With failurePolicy Ignore a lost request is an object that is taken.
            let words = store(api, &bad("probe"), true).await.unwrap_err();
            assert!(words.starts_with(OURS), "{words}");
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let renewals = async {
        for round in 0..12 {
            if round == 6 {
                // Another authority: both are trusted, then the certificate is renewed.
                fs::rename(webhook.path("ca.crt"), webhook.path("old.crt")).unwrap();
                documented(webhook.folder.path(), "# The authority", "# The certificate");
                let both = authorities(webhook.folder.path(), &["old.crt", "ca.crt"]);
                server.kubectl(&["apply", "-f", "-"], &crate::lab::cluster::webhook(&both));
            }
            let next = tempfile::tempdir_in(webhook.folder.path()).unwrap();
            for file in ["ca.crt", "ca.key"] {
                fs::copy(webhook.path(file), next.path().join(file)).unwrap();
            }
            documented(next.path(), "# The certificate", "```");
            for file in ["tls.crt", "tls.key"] {
                if round % 2 == 0 {
                    fs::rename(next.path().join(file), webhook.path(file)).unwrap();
                } else {
                    // In place, and the one long before the other: between them they do not fit.
                    fs::copy(next.path().join(file), webhook.path(file)).unwrap();
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
            }
            let renewed = serial(&webhook.path("tls.crt"));
            until("the renewed certificate is served", async || {
                let served = served(server);
                if served == renewed { Ok(()) } else { Err(format!("{served} and not {renewed}")) }
            })
            .await;
        }
        // The old authority goes: the API server must come anew, with the new one alone.
        let new = authorities(webhook.folder.path(), &["ca.crt"]);
        server.kubectl(&["apply", "-f", "-"], &crate::lab::cluster::webhook(&new));
        tokio::time::sleep(Duration::from_secs(2)).await;
        ended.store(true, Ordering::Relaxed);
    };
    tokio::join!(requests, renewals);
    let asked = asked.into_inner();
    println!("{asked} requests, 12 renewals, none lost");
    assert!(asked > 100, "{asked}");
    assert!(server.log_of("network-operator").contains("the last good one is served"));
}

async fn without_it_all_is_stored_and_with_it_mended(
    api: &Api<DynamicObject>,
    webhook: &mut Webhook,
    server: &ApiServer,
) {
    let before = api.list(&Default::default()).await.unwrap().items;
    webhook.terminate();
    let last = store(api, &bad("probe"), true).await.unwrap_err();
    assert!(last.starts_with(OURS), "it answers while others are told of its end: {last}");
    let ended = until("its end", async || webhook.process.try_wait().unwrap().ok_or_else(String::new)).await;
    assert!(ended.success(), "{ended}");
    store(api, &bad("unjudged"), false).await.unwrap();
    let after = api.list(&Default::default()).await.unwrap().items;
    let versions = |objects: &[DynamicObject]| {
        let versions =
            objects.iter().map(|object| (object.metadata.name.clone(), object.metadata.resource_version.clone()));
        versions.filter(|(name, _)| name.as_deref() != Some("unjudged")).collect::<Vec<_>>()
    };
    assert_eq!(versions(&before), versions(&after));
    webhook.process = server.start_webhook(webhook.folder.path());
    is_asked(api, server).await;
    let change = |patch: &str| server.try_kubectl(&["patch", "vrf", "unjudged", "--type=merge", "-p", patch], "");
    change("{\"metadata\": {\"annotations\": {\"note\": \"bad\"}}}").unwrap();
    let refused = change("{\"spec\": {\"seq\": 2}}").unwrap_err();
    let words = "The VRFRouteConfiguration \"unjudged\" is invalid: spec.vrf: the operator file of this node has no VRF nobody; add it to vnimap, vrfConfig or skipVRFConfig there, or correct the name (UnknownVrf)\n";
    assert_eq!(refused, words);
    change("{\"spec\": {\"vrf\": \"a\", \"seq\": 9999}}").unwrap();
    let generated = json!({
        "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
        "metadata": {"generateName": "generated-"}, "spec": {"vrf": "a", "seq": 10_000, "import": [], "export": []},
    });
    server.kubectl(&["create", "-f", "-"], &generated.to_string());
}
