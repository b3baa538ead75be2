//! A pod's only container as a unit of systemd: what a container runtime would make of the pod's spec, and nothing that it would not give.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Where the image's root is on the node, what it is given of the API server, and where its program is.
pub(super) const ROOT: &str = "/var/lib/lab-image";
pub(super) const ACCOUNT: &str = "/var/lib/lab-account";
const PROGRAMS: &str = "/usr/local/bin";
/// Where a pod finds what is in `ACCOUNT`.
const ACCOUNT_IN_POD: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// What the stand-in knows of. A field that it does not know might be one that it would have to obey.
const POD: [&str; 18] = [
    "affinity",
    "containers",
    "dnsPolicy",
    "enableServiceLinks",
    "hostNetwork",
    "nodeName",
    "nodeSelector",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "restartPolicy",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "volumes",
];
const CONTAINER: [&str; 14] = [
    "args",
    "command",
    "env",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];

/// Of systemd's set for services, what the default profile of containerd and Docker denies; and what it allows to who has a capability.
const DENIED: &str = "@keyring get_mempolicy io_uring_enter io_uring_register io_uring_setup kcmp mbind migrate_pages move_pages \
    process_madvise set_mempolicy set_mempolicy_home_node setns unshare userfaultfd";
const ALLOWED_WITH: [(&str, &str); 2] = [("BPF", "bpf"), ("PERFMON", "perf_event_open")];

/// Capabilities and their numbers (include/uapi/linux/capability.h).
const NUMBERS: [(&str, u32); 5] = [("CHOWN", 0), ("DAC_OVERRIDE", 1), ("NET_ADMIN", 12), ("PERFMON", 38), ("BPF", 39)];

fn assert_known(object: &Value, known: &[&str]) {
    let unknown: Vec<_> = object.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "the stand-in for the kubelet does not know what to make of {unknown:?}");
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The container of a pod.
#[derive(Debug)]
pub struct Container {
    pod: Value,
    spec: Value,
}

/// A volume of the node, where the container sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: String,
    /// As the kubelet looks at it: `Directory`, `Socket`, …
    pub kind: String,
    pub target: String,
    pub writable: bool,
}

impl Container {
    /// Of a pod that has one, and nothing that is not obeyed here.
    pub fn new(pod: &Value) -> Self {
        let containers = pod["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{pod}");
        let container = Self { pod: pod.clone(), spec: containers[0].clone() };
        let (pod, spec) = (&container.pod["spec"], &container.spec);
        assert_known(pod, &POD);
        assert_known(spec, &CONTAINER);
        assert_known(&pod["securityContext"], &["runAsGroup", "runAsUser", "seccompProfile"]);
        let of_container = ["allowPrivilegeEscalation", "capabilities", "privileged", "readOnlyRootFilesystem"];
        assert_known(&spec["securityContext"], &of_container);
        let security = &spec["securityContext"];
        assert_known(&security["capabilities"], &["add", "drop"]);
        assert_known(&spec["resources"], &["limits", "requests"]);
        assert_known(&spec["resources"]["limits"], &["memory"]);
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_known(&spec[probe]["httpGet"], &["host", "path", "port", "scheme"]);
        }
        let fixed = [
            (&pod["hostNetwork"], json!(true)),
            (&pod["dnsPolicy"], json!("Default")),
            (&pod["restartPolicy"], json!("Always")),
            (&pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"})),
            (&security["privileged"], json!(false)),
            (&security["allowPrivilegeEscalation"], json!(false)),
            (&security["readOnlyRootFilesystem"], json!(true)),
            (&security["capabilities"]["drop"], json!(["ALL"])),
        ];
        fixed.iter().for_each(|(value, only)| assert_eq!(*value, only, "the stand-in knows only this"));
        container
    }

    /// Its image.
    pub fn image(&self) -> &str {
        text(&self.spec["image"])
    }

    /// Its capabilities, by name.
    pub fn capabilities(&self) -> Vec<&str> {
        list(&self.spec["securityContext"]["capabilities"]["add"]).map(text).collect()
    }

    /// Its user and its group.
    pub fn ids(&self) -> [u64; 2] {
        ["runAsUser", "runAsGroup"].map(|key| self.pod["spec"]["securityContext"][key].as_u64().unwrap())
    }

    /// The same as the kernel prints them.
    pub fn capability_mask(&self) -> u64 {
        let number =
            |name: &str| NUMBERS.iter().find(|(known, _)| *known == name).expect("a number of the capability").1;
        self.capabilities().into_iter().map(|name| 1 << number(name)).sum()
    }

    /// What of the node it sees.
    pub fn mounts(&self) -> Vec<Mount> {
        let mounts = list(&self.spec["volumeMounts"]).map(|mount| {
            assert_known(mount, &["mountPath", "name", "readOnly"]);
            let volume = list(&self.pod["spec"]["volumes"]).find(|volume| volume["name"] == mount["name"]).unwrap();
            assert_known(volume, &["hostPath", "name"]);
            Mount {
                source: text(&volume["hostPath"]["path"]).to_owned(),
                kind: text(&volume["hostPath"]["type"]).to_owned(),
                target: text(&mount["mountPath"]).to_owned(),
                writable: mount["readOnly"] != true,
            }
        });
        mounts.collect()
    }

    /// Port and path of a probe.
    pub fn probe(&self, name: &str) -> (u16, String) {
        let get = &self.spec[name]["httpGet"];
        assert_eq!(get["host"], "127.0.0.1", "{name}: {get}");
        let port = list(&self.spec["ports"]).find(|port| port["name"] == get["port"]).expect("a port of that name");
        (u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap(), text(&get["path"]).to_owned())
    }

    /// Its environment: what the pod says, and how the API server is reached.
    fn environment(&self, api_server: (&str, u16)) -> BTreeMap<String, String> {
        let (host, port) = api_server;
        let fixed = [("KUBERNETES_SERVICE_HOST", host.to_owned()), ("KUBERNETES_SERVICE_PORT", port.to_string())];
        let of_pod = list(&self.spec["env"]).map(|variable| {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some(field) => self.pod.pointer(&format!("/{}", field.replace('.', "/"))).expect("a field of the pod"),
                None => &variable["value"],
            };
            (text(&variable["name"]).to_owned(), text(value).to_owned())
        });
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(of_pod).collect()
    }

    /// The unit. Its root is the image's, and it sees of the node's files what is mounted. What systemd 252 cannot give it is a namespace of
    /// processes.
    pub fn unit(&self, api_server: (&str, u16)) -> String {
        let (pod, spec) = (&self.pod["spec"], &self.spec);
        let environment = self.environment(api_server);
        let words = list(&spec["command"]).chain(list(&spec["args"])).map(|word| {
            let known = |word: String, (name, value): (&String, &String)| word.replace(&format!("$({name})"), value);
            environment.iter().fold(text(word).to_owned(), known)
        });
        let words: Vec<_> = words.collect();
        let capabilities = self.capabilities();
        let allowed = ALLOWED_WITH.iter().filter(|(name, _)| capabilities.contains(name)).map(|(_, call)| *call);
        let kept: Vec<_> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
        let memory = text(&spec["resources"]["limits"]["memory"]).strip_suffix('i').expect("a unit of 1024").to_owned();
        let mut lines = vec![
            "[Service]\nType=exec\nRestart=always\nRestartSec=10".to_owned(),
            format!("ExecStart={PROGRAMS}/{}", words.join(" ")),
            format!("User={}\nGroup={}", pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]),
            format!("TimeoutStopSec={}", pod["terminationGracePeriodSeconds"]),
            format!("MemoryMax={memory}"),
            format!("CapabilityBoundingSet={}\nNoNewPrivileges=yes", kept.join(" ")),
            "SystemCallErrorNumber=EPERM\nSystemCallArchitectures=native".to_owned(),
            format!("SystemCallFilter=@system-service\nSystemCallFilter=~{DENIED}"),
            "RestrictNamespaces=yes\nPrivateDevices=yes\nPrivateIPC=yes".to_owned(),
            format!("RootDirectory={ROOT}\nMountAPIVFS=yes\nMountFlags=private\nTemporaryFileSystem=/run:ro"),
            "ReadOnlyPaths=+/ +/sys -+/proc/bus -+/proc/fs -+/proc/irq -+/proc/sys -+/proc/sysrq-trigger".to_owned(),
            format!("BindReadOnlyPaths={ACCOUNT}:{ACCOUNT_IN_POD} -/etc/hosts -/etc/resolv.conf"),
            format!("BindReadOnlyPaths=/labbin/network-operator:{PROGRAMS}/network-operator"),
        ];
        lines.extend(allowed.map(|call| format!("SystemCallFilter={call}")));
        lines.extend(environment.iter().map(|(name, value)| format!("Environment=\"{name}={value}\"")));
        lines.extend(self.mounts().iter().map(|mount| {
            let Mount { source, target, writable, .. } = mount;
            format!("Bind{}Paths={source}:{target}", if *writable { "" } else { "ReadOnly" })
        }));
        lines.iter().flat_map(|line| [line, "\n"]).collect()
    }
}
