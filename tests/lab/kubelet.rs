//! A stand-in for the kubelet of one node, and for the scheduler that gives it the agents' pod: it reads the pod back from the API server
//! and runs its container as a unit of the node's systemd.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::container::{ACCOUNT, Container, Mount, ROOT};
use super::{Access, ApiServer, HOST, Node};

const LIMIT: Duration = Duration::from_secs(90);
const UNIT_FILE: &str = "/run/systemd/system/network-operator.service";
/// What the program may be linked with, because the image has it.
const LIBRARIES: [&str; 4] = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];

/// The kubelet.
pub struct Kubelet<'a> {
    pub node: &'a Node,
    /// The node's address.
    pub address: &'a str,
    pub server: &'a ApiServer,
}

impl Kubelet<'_> {
    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.server.kubectl(&["get", "--raw", path], "")).unwrap()
    }

    fn create(&self, path: &str, object: &Value) -> Value {
        let answer = self.server.kubectl(&["create", "--raw", path, "-f", "-"], &object.to_string());
        serde_json::from_str(&answer).unwrap()
    }

    fn put_status(&self, path: &str, status: Value) {
        let mut object = self.get(path);
        object["status"] = status;
        self.server.kubectl(&["replace", "--raw", &format!("{path}/status"), "-f", "-"], &object.to_string());
    }

    /// Makes the Node, ready, with these taints.
    pub fn registers(&self, taints: &[&str]) {
        let name = self.node.name();
        let taints: Vec<_> = taints.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": taints}});
        self.create("/api/v1/nodes", &node);
        let status = json!({
            "addresses": [{"type": "InternalIP", "address": self.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        self.put_status(&format!("/api/v1/nodes/{name}"), status);
    }

    /// Waits for the pod of a DaemonSet, takes it, runs it, and says so once it is ready.
    pub fn runs_the_pod_of(&self, namespace: &str, daemon_set: &str) -> Container {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let name = self.scheduled(&pods, daemon_set);
        let path = format!("{pods}/{name}");
        let addresses = json!({"phase": "Pending", "hostIP": self.address, "podIP": self.address});
        self.put_status(&path, addresses.clone());
        let pod = self.get(&path);
        let container = Container::new(&pod);
        self.unpacks_the_image();
        self.gives_the_account(&pod);
        self.runs(&container);
        let mut status = addresses;
        status["phase"] = "Running".into();
        let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"];
        status["conditions"] = conditions.map(|kind| json!({"type": kind, "status": "True"})).as_slice().into();
        self.put_status(&path, status);
        container
    }

    /// Runs what it has taken, as it does after each boot, and waits until it is ready.
    pub fn runs(&self, container: &Container) {
        container.mounts().iter().for_each(|mount| self.looks_at(mount));
        self.node.write(UNIT_FILE, container.unit((HOST, 6443)));
        self.node.ok("systemctl daemon-reload && systemctl start network-operator");
        self.node.wait("the pod is ready", LIMIT, |_| self.asks(container, "readinessProbe"));
    }

    /// Binds the pod that the DaemonSet's controller made for this node, and gives its name.
    fn scheduled(&self, pods: &str, daemon_set: &str) -> String {
        let pod = self.node.wait("its DaemonSet has a pod", LIMIT, |_| {
            let list = self.get(pods);
            let owned = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["name"] == daemon_set;
            let found = list["items"].as_array().unwrap().iter().find(owned).cloned();
            found.ok_or_else(|| format!("no pod of {daemon_set} in {list}"))
        });
        let affinity = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let fields = json!([{"key": "metadata.name", "operator": "In", "values": [self.node.name()]}]);
        assert_eq!(affinity["nodeSelectorTerms"][0]["matchFields"], fields, "{affinity}");
        let name = pod["metadata"]["name"].as_str().unwrap();
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": self.node.name()});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
        self.create(&format!("{pods}/{name}/binding"), &binding);
        name.to_owned()
    }

    /// As a kubelet does it before it mounts what a pod asks for of the node.
    fn looks_at(&self, mount: &Mount) {
        let Mount { source, kind, .. } = mount;
        self.node.ok(&match kind.as_str() {
            "Directory" => format!("test -d {source}"),
            "DirectoryOrCreate" => format!("mkdir -p {source}"),
            "File" => format!("test -f {source}"),
            "Socket" => format!("test -S {source}"),
            _ => panic!("{mount:?}"),
        });
    }

    /// The image's root: what its program needs of the release of Debian that this node has, too. The program itself is mounted.
    fn unpacks_the_image(&self) {
        let libraries = self.node.ok("ldd /labbin/network-operator | grep -o '/[^ )]*'");
        for library in libraries.lines() {
            let name = library.rsplit('/').next().unwrap();
            assert!(LIBRARIES.contains(&name), "who says that the image has {library}?");
            self.node.ok(&format!("install -D {library} {ROOT}{library}"));
        }
        self.node.ok(&format!("cd {ROOT} && mkdir -p dev etc proc run sys tmp var && ln -s /run var/run"));
    }

    /// A token that is bound to the pod, and the API server's authority.
    fn gives_the_account(&self, pod: &Value) {
        let of_pod = |field: &str| pod["metadata"][field].as_str().unwrap();
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": of_pod("name"), "uid": of_pod("uid")});
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3607, "boundObjectRef": bound},
        });
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", of_pod("namespace"));
        let answer = self.create(&path, &request);
        self.node.write(&format!("{ACCOUNT}/token"), answer["status"]["token"].as_str().unwrap());
        self.node.write(&format!("{ACCOUNT}/ca.crt"), self.server.authority());
        self.node.write(&format!("{ACCOUNT}/namespace"), of_pod("namespace"));
    }

    /// What a probe of the container comes to.
    pub fn asks(&self, container: &Container, probe: &str) -> Result<(), String> {
        let (port, path) = container.probe(probe);
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 5 cat <&3"
        );
        let answer = self.node.run(&ask);
        let good = answer.stdout.split_whitespace().nth(1) == Some("200");
        if good { Ok(()) } else { Err(format!("{probe}: {}{}", answer.stdout, answer.stderr)) }
    }

    /// Asserts that the kernel holds the container's process to what the pod says, that it is the first one, and that it was refused nothing
    /// so far.
    pub fn assert_confined(&self, container: &Container) {
        let process = self.node.process(&self.node.agent_pid());
        let mask = format!("{:016x}", container.capability_mask());
        for (key, value) in [
            ("CapBnd", mask.as_str()),
            ("CapPrm", &mask),
            ("CapEff", &mask),
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            // There is a filter of system calls.
            ("Seccomp", "2"),
        ] {
            assert_eq!(process.status(key), value, "{key}");
        }
        let ids = container.ids().map(|id| [id; 4].map(|id| id.to_string()).join("\t"));
        assert_eq!([process.status("Uid"), process.status("Gid")], ids.each_ref().map(String::as_str));
        assert_eq!(self.node.ok("systemctl show -P NRestarts network-operator").trim(), "0");
        // Of a root that is read-only it writes what is mounted for that, and what the kernel makes.
        let mounts = process.mounts().into_iter();
        let written =
            mounts.filter(|(path, access)| *access == Access::Written && path != "/proc" && !path.starts_with("/dev"));
        let meant = container.mounts().into_iter().filter(|mount| mount.writable).map(|mount| mount.target);
        assert_eq!(written.map(|(path, _)| path).collect::<BTreeSet<_>>(), meant.collect(), "{process:?}");
        self.node.assert_refused_nothing();
    }
}
