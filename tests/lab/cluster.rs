//! The cluster around the nodes: Node objects with their kubelets, and agents that have no node beneath them, so that there may be
//! many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use network_operator::api::{ObjectResult, ObjectState, VrfRouteConfiguration, VrfRouteConfigurationStatus, crd_yaml};
use network_operator::status::node::{RunReport, objects};
use network_operator::status::{Started, start};
use network_operator::trigger::known::KubeObjects;
use network_operator::trigger::kube::watch as watch_objects;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ApiServer, HOST};

const LIMIT: Duration = Duration::from_secs(120);
/// Where the Lease is.
pub const NAMESPACE: &str = "kube-system";

/// What the agents are given where they are deployed, for the user that they are here.
pub fn rights() -> String {
    let deployed = include_str!("../../deploy/base/rbac.yaml");
    let account = "{kind: ServiceAccount, name: network-operator, namespace: kube-system}";
    assert_eq!(deployed.matches(account).count(), 3);
    deployed.replace(account, "{apiGroup: rbac.authorization.k8s.io, kind: User, name: agent}")
}

/// The same of agents of `--only-attach-bpf`.
pub fn rights_of_routers() -> String {
    let deployed = include_str!("../../deploy/components/only-attach-bpf/rbac.yaml");
    let account = "{kind: ServiceAccount, name: network-operator-only-attach-bpf, namespace: kube-system}";
    assert_eq!(deployed.matches(account).count(), 1);
    deployed.replace(account, "{apiGroup: rbac.authorization.k8s.io, kind: User, name: router}")
}

/// The webhook as it is deployed, for the user that it is here, and where it listens here.
pub fn webhook(ca_bundle: &str) -> String {
    let deployed = include_str!("../../deploy/components/webhook/webhook.yaml");
    let account = "{kind: ServiceAccount, name: network-operator-webhook, namespace: kube-system}";
    let service = "{service: {name: network-operator-webhook, namespace: kube-system, path: /validate}}";
    assert_eq!((deployed.matches(account).count(), deployed.matches(service).count()), (1, 1));
    let url = format!("{{url: 'https://{HOST}:9443/validate', caBundle: {ca_bundle}}}");
    let user = "{apiGroup: rbac.authorization.k8s.io, kind: User, name: webhook}";
    deployed.replace(account, user).replace(service, &url)
}

/// An agent without a node.
pub struct Agent {
    pub name: String,
    pub leads: watch::Receiver<bool>,
    reports: watch::Sender<Option<RunReport>>,
    cancel: CancellationToken,
}

impl Agent {
    /// Starts all that `run` starts towards the API server.
    pub fn start(client: &Client, name: &str) -> Self {
        let cancel = CancellationToken::new();
        let Started { reports, leads } = start(client, NAMESPACE, name, &cancel);
        Self { name: name.to_owned(), leads, reports, cancel }
    }

    /// The same, with objects that are watched and, half a second after a change, in force.
    pub fn obedient(client: &Client, name: &str) -> Self {
        let agent = Self::start(client, name);
        let (triggers, mut asked) = mpsc::unbounded_channel();
        let known = KubeObjects::of_a_node();
        tokio::spawn(watch_objects(client.clone(), known.clone(), triggers, |_| {}, agent.cancel.clone()));
        let reports = agent.reports.clone();
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                tokio::time::sleep(Duration::from_millis(500)).await;
                while asked.try_recv().is_ok() {}
                let Some(all) = known.snapshot() else { continue };
                let in_force: BTreeMap<_, _> =
                    all.identities().map(|(name, identity, _)| (name.to_owned(), identity)).collect();
                reports.send_replace(Some(report(objects(&all, &[], &[], ("RunFailed", None), &in_force))));
            }
        });
        agent
    }

    /// As with `kill -9`: nothing is given back.
    pub fn kill(&self) {
        self.cancel.cancel();
    }

    /// Its last run came to this.
    pub fn says(&self, objects: Vec<ObjectState>) {
        self.reports.send_replace(Some(report(objects)));
    }
}

fn report(objects: Vec<ObjectState>) -> RunReport {
    let failure = objects.iter().find(|object| object.result == ObjectResult::Failed);
    RunReport {
        start: Timestamp::now(),
        took: Duration::from_secs(1),
        done: None,
        repair: false,
        failure: failure.map(|object| object.message.clone()),
        incomplete: false,
        router: Vec::new(),
        objects,
        vrfs: Vec::new(),
        configuration: Some("0123456789abcdef".to_owned()),
        frr_version: Some("10.3".to_owned()),
    }
}

/// What a node may say of an object.
pub fn state(object: &VrfRouteConfiguration, result: ObjectResult, reason: &str, message: &str) -> ObjectState {
    ObjectState {
        name: object.name_any(),
        uid: object.uid().unwrap(),
        generation: object.metadata.generation.unwrap(),
        result,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// That it is in force.
pub fn applied(object: &VrfRouteConfiguration) -> ObjectState {
    state(object, ObjectResult::Applied, "", "")
}

/// Waits for something that the API server is to show.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(seen) => assert!(begin.elapsed() < LIMIT, "{what}: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Status, reason and message of a condition of an object.
pub fn words(status: &VrfRouteConfigurationStatus, kind: &str) -> (String, String, String) {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind);
    condition.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())).unwrap_or_default()
}

/// The cluster, as its administrator sees it.
pub struct Cluster {
    pub client: Client,
    pub objects: Api<VrfRouteConfiguration>,
}

impl Cluster {
    /// Makes a Node.
    pub async fn node(&self, name: &str, ready: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        self.is_ready(name, ready).await;
    }

    /// What the node controller says of a node whose kubelet it hears, or does not hear any more.
    pub async fn is_ready(&self, name: &str, ready: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    /// What a kubelet does that anybody looks at here: it says every few seconds that its node is ready, while the node is in the
    /// list.
    pub fn kubelets(&self, alive: Arc<Mutex<BTreeSet<String>>>) -> JoinHandle<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        tokio::spawn(async move {
            loop {
                let names = alive.lock().unwrap().clone();
                for name in names {
                    let now = Timestamp::now();
                    let ready =
                        json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now});
                    let status = json!({"status": {"conditions": [ready]}});
                    let _ = nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status)).await;
                }
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        })
    }

    /// Makes an object.
    pub async fn object(&self, name: &str, seq: i64) -> VrfRouteConfiguration {
        let spec = json!({"vrf": "blue", "seq": seq, "import": [], "export": []});
        let object = serde_json::from_value(json!({
            "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
            "metadata": {"name": name}, "spec": spec,
        }));
        self.objects.create(&PostParams::default(), &object.unwrap()).await.unwrap()
    }

    /// Waits until this generation of the object is said to be applied in these words.
    pub async fn generation(&self, name: &str, generation: i64, message: &str) {
        let look = async || {
            let status = self.objects.get(name).await.unwrap().status.unwrap_or_default();
            let said = (status.observed_generation, words(&status, "Applied").2);
            if said == (Some(generation), message.to_owned()) { Ok(()) } else { Err(format!("{said:?}")) }
        };
        until(&format!("{name}: generation {generation}: {message}"), look).await;
    }

    /// Waits until the object is said to be applied in these words.
    pub async fn says(&self, name: &str, message: &str) -> VrfRouteConfigurationStatus {
        let what = format!("{name}: {message}");
        let look = async || {
            let status = self.objects.get(name).await.unwrap().status.unwrap_or_default();
            let said = words(&status, "Applied").2;
            if said == message { Ok(status) } else { Err(said) }
        };
        until(&what, look).await
    }
}

/// Installs rights and CRDs, and does something as administrator.
pub fn with_server(server: &ApiServer, work: impl AsyncFnOnce(Cluster, &ApiServer) + Send) {
    let log = tracing_subscriber::fmt().with_env_filter("network_operator=info,kube_client=off");
    let _ = log.with_ansi(false).with_test_writer().try_init();
    server.kubectl(&["apply", "-f", "-"], &rights());
    server.kubectl(&["apply", "-f", "-"], &crd_yaml().unwrap());
    server.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
    // What is established is discovered a moment later.
    let begin = std::time::Instant::now();
    while let Err(error) = server.try_kubectl(&["get", "vrf,nodenetworkstates"], "") {
        assert!(begin.elapsed() < LIMIT, "{error}");
        std::thread::sleep(Duration::from_millis(200));
    }
    server.as_client("admin", async |client: Client| {
        let objects = Api::all(client.clone());
        work(Cluster { client, objects }, server).await;
    });
}
