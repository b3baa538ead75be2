//! The webhook does its work as its container is confined, with the rights of its account, and with the packets that its NetworkPolicy
//! lets pass.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::lab::certificate::{authorities, certify};
use crate::lab::cluster::{Cluster, until, webhook, with_server};
use crate::lab::{ApiServer, Bridge, HOST, spawn};
use crate::rendered::{Templates, chart, objects, pod};
use crate::rights::{AUDIT, all_are_used, granted};

/// The chart with a webhook that is asked by the lab's API server alone.
fn deployed() -> Templates {
    let network = json!({"apiServerCIDRs": [format!("{HOST}/32")]});
    chart(&json!({"webhook": {"enabled": true, "networkPolicy": network}}))
}

/// A command in the namespace of the bridge.
fn inside(bridge: &Bridge, args: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", bridge.netns()]).args(args);
    command
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// The container, as a runtime starts it: files, user, capabilities, command and flags are the manifest's. It is killed with this value.
struct Container {
    process: Child,
    log: std::path::PathBuf,
}

impl Container {
    /// The folder has the files of the ConfigMap and of the Secret, and has room for a root.
    fn start(bridge: &Bridge, server: &ApiServer, folder: &Path) -> Self {
        let (pod, container) = pod(&deployed()["webhook.yaml"]);
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        for name in ["root", "account"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        fs::write(path("account/token"), "webhook").unwrap();
        fs::write(path("account/ca.crt"), server.authority()).unwrap();
        fs::write(path("account/namespace"), "kube-system").unwrap();
        let account = format!("bind {} /var/run/secrets/kubernetes.io/serviceaccount\n", path("account"));
        let mut mounts = if pod["automountServiceAccountToken"] == false { String::new() } else { account };
        for mount in container["volumeMounts"].as_array().unwrap() {
            let [name, place] = ["name", "mountPath"].map(|key| mount[key].as_str().unwrap());
            writeln!(mounts, "bind {} {place}", path(name)).unwrap();
        }
        let script = format!(
            "mount -t tmpfs none {root}
             bind() {{ mkdir -p {root}$2; mount --bind $1 {root}$2; mount -o remount,bind,ro {root}$2; }}
             mkdir {root}/bin
             cp {program} {root}/bin/
             bind /usr /usr
             ln -s usr/lib usr/lib64 {root}
             {mounts}{read_only}
             exec chroot {root} /usr/bin/env -i PATH=/bin KUBERNETES_SERVICE_HOST={HOST} KUBERNETES_SERVICE_PORT=6443 \
               /usr/bin/setpriv {confined} --pdeathsig KILL {command} {args}",
            root = path("root"),
            program = env!("CARGO_BIN_EXE_network-operator"),
            read_only = match container["securityContext"]["readOnlyRootFilesystem"] == true {
                true => format!("mount -o remount,ro {}", path("root")),
                false => String::new(),
            },
            confined = confined(&pod["securityContext"], &container["securityContext"]),
            command = words(&container["command"]).join(" "),
            args = words(&container["args"]).join(" "),
        );
        let log = folder.join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = inside(bridge, &["sh", "-ec", &script]);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { process: spawn(command).unwrap(), log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// What the kernel holds it to.
    fn is_held(&self, key: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The security contexts of pod and container, as flags of setpriv.
fn confined(pod: &Value, container: &Value) -> String {
    let mut flags = format!("--reuid {} --regid {} --groups {}", pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]);
    if container["allowPrivilegeEscalation"] == false {
        flags += " --no-new-privs";
    }
    if container["capabilities"] == json!({"drop": ["ALL"]}) {
        flags += " --inh-caps=-all --bounding-set=-all";
    }
    flags
}

/// The rules of one direction, for packets that begin a connection.
fn rules(policy: &Value, container: &Value, direction: &str, peers: &str, packets: &str) -> String {
    let mut text = String::new();
    for rule in policy["spec"][direction].as_array().into_iter().flatten() {
        let peers = rule[peers].as_array().expect("a rule without peers is for all of them");
        for port in rule["ports"].as_array().expect("a rule without ports is for all of them") {
            let named = container["ports"].as_array().unwrap().iter().find(|named| named["name"] == port["port"]);
            let number = named.map_or(&port["port"], |named| &named["containerPort"]);
            let protocol = port["protocol"].as_str().unwrap().to_lowercase();
            for peer in peers {
                let network = peer["ipBlock"]["cidr"].as_str().unwrap();
                writeln!(text, "{packets} {network} {protocol} dport {number} accept").unwrap();
            }
        }
    }
    text
}

/// The NetworkPolicy in words of nftables, for where all have one address: what goes to the webhook is known by its port, what it sends by
/// its user.
fn filter(policy: &Value, pod: &Value, container: &Value) -> String {
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    let (user, port) = (&pod["securityContext"]["runAsUser"], &container["ports"][0]["containerPort"]);
    let into = rules(policy, container, "ingress", "from", "ip saddr");
    let out = rules(policy, container, "egress", "to", &format!("meta skuid {user} ip daddr"));
    format!(
        "table inet webhook {{
         counter in {{ }}
         counter out {{ }}
         chain in {{ type filter hook input priority 0;
         {into}tcp dport {port} counter name in reject with tcp reset
         }}
         chain out {{ type filter hook output priority 0;
         meta skuid {user} ct state established accept
         {out}meta skuid {user} counter name out reject
         }}
         }}"
    )
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn object(name: &str, vrf: &str) -> String {
    let spec = json!({"vrf": vrf, "seq": 10, "import": [], "export": []});
    let head = json!({"name": name});
    json!({"apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration", "metadata": head, "spec": spec})
        .to_string()
}

#[test]
fn the_webhook_judges_as_it_is_confined_with_each_of_its_rights_and_no_other_packets() {
    let bridge = Bridge::new();
    let server = ApiServer::audited(&bridge, AUDIT);
    let folder = tempfile::tempdir().unwrap();
    for name in ["config", "tls"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("config/config.yaml"), "vnimap: {blue: 100}\n").unwrap();
    certify(&folder.path().join("tls"));
    // Modes as the kubelet gives them to files of a Secret.
    let open = ["chmod", "-R", "a+rX"];
    assert!(run(Command::new(open[0]).args(&open[1..]).arg(folder.path())).0);
    let texts = deployed();
    let (pod, container) = pod(&texts["webhook.yaml"]);
    let filter = filter(&objects(&texts["network-policy.yaml"])[0], &pod, &container);
    let (good, said) = run(&mut inside(&bridge, &["nft", &filter]));
    assert!(good, "{filter}: {said}");
    let refused = |direction: &str| -> u64 {
        let (good, said) = run(&mut inside(&bridge, &["nft", "list", "counter", "inet", "webhook", direction]));
        let count = said.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        count.filter(|_| good).unwrap_or_else(|| panic!("{said}"))
    };
    with_server(&server, async |cluster: Cluster, server: &ApiServer| {
        cluster.object("first", 10).await;
        server.kubectl(&["apply", "-f", "-"], &webhook(&authorities(&folder.path().join("tls"), &["ca.crt"])));
        let container = Container::start(&bridge, server, folder.path());
        for (object, reason) in [(object("bad", "nobody"), "UnknownVrf"), (object("second", "blue"), "DuplicateSeq")] {
            let look = async || match server.try_kubectl(&["create", "--dry-run=server", "-f", "-"], &object) {
                Err(words) if words.contains(reason) => Ok(()),
                other => Err(format!("{other:?}\n{}\n{:?}", container.log(), ["in", "out"].map(refused))),
            };
            until(reason, look).await;
        }
        all_are_used(server, &granted("webhook.yaml")).await;
        let held = |keys: &[&str]| keys.iter().map(|key| container.is_held(key)).collect::<BTreeSet<_>>();
        assert_eq!(held(&["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"]), BTreeSet::from(["0".repeat(16)]));
        assert_eq!(held(&["Uid", "Gid"]), BTreeSet::from([["65532"; 4].join(" ")]));
        assert_eq!(
            (container.is_held("Groups"), container.is_held("NoNewPrivs")),
            ("65532".to_owned(), "1".to_owned())
        );
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", container.process.id())).unwrap();
        let read_only =
            mounts.lines().filter(|line| line.split(' ').nth(5).unwrap().split(',').any(|word| word == "ro"));
        assert_eq!((read_only.count(), mounts.lines().count()), (5, 5), "{mounts}");
        assert_eq!(["in", "out"].map(refused), [0, 0]);
        // The filter is there: whoever is the webhook's user reaches nothing else, and nobody else reaches the webhook.
        let ask = ["openssl", "s_client", "-connect", &format!("{HOST}:9443")];
        assert!(run(&mut inside(&bridge, &ask)).0);
        let (user, said) = run(&mut inside(&bridge, &[&["setpriv", "--reuid", "65532"], &ask[..]].concat()));
        assert!(!user && refused("out") > 0, "{said}");
        assert_eq!(refused("in"), 0);
        assert!(!run(&mut inside(&bridge, &["openssl", "s_client", "-connect", "127.0.0.1:9443"])).0);
        assert!(refused("in") > 0);
    });
}

#[test]
fn the_webhook_is_a_pod_as_the_standard_restricted_has_it_and_all_that_selects_it_finds_it() {
    let texts = deployed();
    let (pod, container) = pod(&texts["webhook.yaml"]);
    let security = &pod["securityContext"];
    assert_eq!(
        (&security["runAsNonRoot"], &security["seccompProfile"]),
        (&json!(true), &json!({"type": "RuntimeDefault"}))
    );
    for key in ["hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"] {
        assert!(pod.get(key).is_none(), "{key}");
    }
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(volume.get("configMap").or(volume.get("secret")).is_some(), "{volume}");
    }
    assert_eq!(
        container["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    let all = objects(&texts["webhook.yaml"]);
    let of = |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap();
    let labels = &of("Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(of("Deployment")["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(of("Service")["spec"]["selector"], *labels);
    assert_eq!(objects(&texts["network-policy.yaml"])[0]["spec"]["podSelector"]["matchLabels"], *labels);
    let account = pod["serviceAccountName"].as_str().unwrap();
    let bound = json!([{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}]);
    assert_eq!(of("ClusterRoleBinding")["subjects"], bound);
    // No agent may be found by what is for the webhook.
    let agents = chart(&json!({"onlyAttachBpf": {"enabled": true}}));
    for template in ["daemonset.yaml", "only-attach-bpf.yaml"] {
        let metadata = &objects(&agents[template])[0]["spec"]["template"]["metadata"];
        let selected = labels.as_object().unwrap().iter().all(|(key, value)| metadata["labels"][key] == *value);
        assert!(!selected, "{template}");
    }
}
