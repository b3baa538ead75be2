//! A containerlab topology without containers: the machines that run the agent are nodes of the lab, all others are network
//! namespaces of one more node, each with an FRR of its own where it has a frr.conf.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::node::Builder;
use super::{Bridge, Image, Node};

/// Where the topology is.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/containerlab");
const FILE: &str = "network-operator.clab.yml";
/// What a machine is given, by the path that it has in a container.
const CONF: &str = "/etc/frr/frr.conf.boot";
const LINKS: &str = "/lab/links.sh";
const AGENT: &str = "/usr/local/bin/network-operator";
/// Address of this machine in the network for management, which is the runner's and no part of the topology: of 198.18.0.0/15, which
/// RFC 2544 keeps for tests of networks, so that it is none of those the topology uses.
pub const MANAGEMENT: &str = "198.18.1.254";
/// How the nodes' addresses begin there.
const MANAGED: &str = "198.18.1.";
/// Where the namespaces' files are on their node.
const NAMESPACES: &str = "/fabric";

/// `containerlab/network-operator.clab.yml`.
pub struct Topology(Value);

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub machine: String,
    pub link: String,
}

impl Topology {
    /// Reads the file.
    pub fn read() -> Self {
        Self(serde_saphyr::from_str(&std::fs::read_to_string(Path::new(FOLDER).join(FILE)).unwrap()).unwrap())
    }

    /// Names of all machines.
    pub fn machines(&self) -> impl Iterator<Item = &str> {
        self.0["topology"]["nodes"].as_object().unwrap().keys().map(String::as_str)
    }

    /// What a machine is given: a path here, and one there.
    pub fn binds(&self, machine: &str) -> Vec<(PathBuf, String)> {
        let binds = self.0["topology"]["nodes"][machine]["binds"].as_array().into_iter().flatten();
        binds
            .map(|bind| {
                let mut parts = bind.as_str().unwrap().split(':');
                (Path::new(FOLDER).join(parts.next().unwrap()), parts.next().unwrap().to_owned())
            })
            .collect()
    }

    fn bound(&self, machine: &str, path: &str) -> Option<PathBuf> {
        self.binds(machine).into_iter().find(|(_, there)| there == path).map(|(here, _)| here)
    }

    fn commands(&self, machine: &str) -> Vec<&str> {
        self.0["topology"]["nodes"][machine]["exec"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap())
            .collect()
    }

    /// Whether the agent runs on a machine.
    pub fn is_node(&self, machine: &str) -> bool {
        self.bound(machine, AGENT).is_some()
    }

    /// A picture of it, as Mermaid draws one.
    pub fn picture(&self) -> String {
        let mut picture = "graph LR\n".to_owned();
        for machine in self.machines() {
            let shape = if self.is_node(machine) {
                format!("[\"{machine}: network-operator\"]")
            } else {
                format!("([{machine}])")
            };
            writeln!(picture, "  {machine}{shape}").unwrap();
        }
        for [left, right] in self.links() {
            let (End { machine: a, link: b }, End { machine: c, link: d }) = (left, right);
            writeln!(picture, "  {a} -- \"{b} – {d}\" --- {c}").unwrap();
        }
        picture
    }

    /// All links.
    pub fn links(&self) -> Vec<[End; 2]> {
        let end = |end: &Value| {
            let (machine, link) = end.as_str().unwrap().split_once(':').unwrap();
            End { machine: machine.to_owned(), link: link.to_owned() }
        };
        let links = self.0["topology"]["links"].as_array().unwrap();
        links.iter().map(|link| [end(&link["endpoints"][0]), end(&link["endpoints"][1])]).collect()
    }
}

/// The topology, booted. Agents do not run yet.
pub struct Booted {
    /// The machines that are nodes.
    pub nodes: BTreeMap<String, Node>,
    /// The node of all namespaces.
    pub namespaces: Node,
    bridge: Bridge,
}

impl Booted {
    /// Boots all nodes, and waits until each FRR has its configuration.
    pub fn boot(image: Image) -> Self {
        let (topology, bridge) = (Topology::read(), Bridge::new());
        let plan = Plan::of(&topology, &bridge, image);
        let (namespaces, nodes) = std::thread::scope(|scope| {
            let namespaces = scope.spawn(|| plan.namespaces.boot());
            let nodes: Vec<_> =
                plan.nodes.into_iter().map(|(name, node)| (name, scope.spawn(|| node.boot()))).collect();
            let nodes = nodes.into_iter().map(|(name, node)| (name, node.join().unwrap())).collect::<BTreeMap<_, _>>();
            (namespaces.join().unwrap(), nodes)
        });
        let booted = Self { nodes, namespaces, bridge };
        booted.namespaces.ok("systemctl stop frr");
        booted.namespaces.ok("bash /fabric/start.sh");
        booted.nodes.values().for_each(Node::wait_for_frr);
        booted
    }

    /// Runs a command in the namespace of a machine.
    pub fn within(&self, machine: &str, command: &str) -> super::Output {
        self.namespaces.run(&format!("ip netns exec {machine} {command}"))
    }

    /// Asks the FRR of a machine.
    pub fn vtysh(&self, machine: &str, command: &str) -> String {
        match self.nodes.get(machine) {
            Some(node) => node.vtysh(command),
            None => self.namespaces.ok(&format!("vtysh -N {machine} -c '{command}'")),
        }
    }

    /// The namespace of the bridge between the nodes.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }
}

struct Plan {
    nodes: Vec<(String, Builder)>,
    namespaces: Builder,
}

impl Plan {
    fn of(topology: &Topology, bridge: &Bridge, image: Image) -> Self {
        let mut namespaces = Node::builder("fabric", image).memory_mb(1024);
        let mut nodes: BTreeMap<String, Builder> = BTreeMap::new();
        let mut boots: BTreeMap<String, String> = BTreeMap::new();
        let mut boot = "set -e\n".to_owned();
        let (inside, own): (BTreeSet<&str>, BTreeSet<&str>) =
            topology.machines().partition(|name| !topology.is_node(name));
        for name in &inside {
            writeln!(boot, "ip netns add {name}; ip -n {name} link set lo up").unwrap();
        }
        for name in &own {
            nodes.insert((*name).to_owned(), Node::builder(name, image));
        }
        let (mut segments, mut nics) = (0, 0);
        for [left, right] in topology.links() {
            if inside.contains(left.machine.as_str()) && inside.contains(right.machine.as_str()) {
                // As long as containerlab's are.
                let [End { machine: a, link: b }, End { machine: c, link: d }] = [&left, &right];
                writeln!(boot, "ip link add {b} netns {a} mtu 9500 type veth peer name {d} netns {c} mtu 9500")
                    .unwrap();
                continue;
            }
            let segment = format!("segment{segments}");
            bridge.segment(&segment);
            segments += 1;
            for end in [left, right] {
                if let Some(node) = nodes.remove(&end.machine) {
                    nodes.insert(end.machine.clone(), node.nic_on(bridge, &segment));
                    let boot = boots.entry(end.machine).or_default();
                    let number = boot.lines().count();
                    writeln!(boot, "ip link set vec{number} name {}", end.link).unwrap();
                } else {
                    namespaces = namespaces.nic_on(bridge, &segment);
                    writeln!(boot, "ip link set vec{nics} netns {} name {}", end.machine, end.link).unwrap();
                    nics += 1;
                }
            }
        }
        bridge.address(&format!("{MANAGEMENT}/24"));
        for (number, (name, builder)) in (1..).zip(std::mem::take(&mut nodes)) {
            nodes.insert(name.clone(), builder.nic(bridge));
            let boot = boots.get_mut(&name).unwrap();
            let vec = format!("vec{}", boot.lines().count());
            writeln!(boot, "ip link set {vec} name eth0 up; ip addr add {MANAGED}{number}/24 dev eth0").unwrap();
        }
        // What fails at boot fails here.
        let mut start = "set -e\n[ -e /run/fabric-is-made ]\n".to_owned();
        for name in &inside {
            namespaces = namespace(topology, name, namespaces, &mut boot, &mut start);
        }
        boot.push_str("touch /run/fabric-is-made\n");
        let namespaces = namespaces.file(&format!("{NAMESPACES}/start.sh"), start).boot_script(&boot);
        let nodes = nodes.into_iter().map(|(name, builder)| {
            let builder = node(topology, &name, builder, &boots[&name]);
            (name, builder)
        });
        Self { nodes: nodes.collect(), namespaces }
    }
}

/// The arguments of the script of links, where this command runs it.
fn arguments(command: &str) -> Option<&str> {
    command.strip_prefix("bash ")?.strip_prefix(LINKS)
}

/// What starts FRR in a container is done by the lab: by systemd on a node, in a namespace daemon by daemon.
fn starts_frr(command: &str) -> bool {
    command.contains(CONF) || command == "systemctl restart frr"
}

fn namespace(topology: &Topology, name: &str, mut builder: Builder, boot: &mut String, start: &mut String) -> Builder {
    let folder = format!("{NAMESPACES}/{name}");
    if let Some(script) = topology.bound(name, LINKS) {
        builder = builder.file(&format!("{folder}/links.sh"), std::fs::read(script).unwrap());
    }
    for command in topology.commands(name) {
        match arguments(command) {
            Some(arguments) => writeln!(boot, "ip netns exec {name} bash -e {folder}/links.sh{arguments}").unwrap(),
            None if starts_frr(command) => {}
            None => writeln!(boot, "ip netns exec {name} {command}").unwrap(),
        }
    }
    let Some(conf) = topology.bound(name, CONF) else { return builder };
    writeln!(start, "install -d -o frr -g frr /run/frr/{name}; chown -R frr:frr /etc/frr/{name}").unwrap();
    writeln!(start, "for daemon in mgmtd zebra staticd bgpd; do ip netns exec {name} /usr/lib/frr/$daemon -d -N {name} -F traditional; done").unwrap();
    writeln!(start, "vtysh -N {name} -b").unwrap();
    builder.file(&format!("/etc/frr/{name}/frr.conf"), std::fs::read(conf).unwrap())
}

fn node(topology: &Topology, name: &str, mut builder: Builder, nics: &str) -> Builder {
    let mut boot = nics.to_owned();
    for command in topology.commands(name) {
        let Some(arguments) = arguments(command) else {
            assert!(starts_frr(command), "{name}: `{command}` is not known here");
            continue;
        };
        let script = std::fs::read_to_string(topology.bound(name, LINKS).unwrap()).unwrap();
        writeln!(boot, "set -- {arguments}\n{script}").unwrap();
    }
    for (here, there) in topology.binds(name) {
        let there = if there == CONF { "/etc/frr/frr.conf".to_owned() } else { there };
        if there == LINKS || there == AGENT {
            continue;
        }
        if here.is_dir() {
            for entry in std::fs::read_dir(&here).unwrap() {
                let file = entry.unwrap();
                let path = format!("{there}/{}", file.file_name().to_string_lossy());
                builder = builder.file(&path, std::fs::read(file.path()).unwrap());
            }
        } else {
            builder = builder.file(&there, std::fs::read(here).unwrap());
        }
    }
    builder.boot_script(&boot)
}
