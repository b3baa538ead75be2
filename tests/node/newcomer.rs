//! A newcomer's walk: the commands of README's section "Install", as they stand there, on a node with the FRR of its release and a cluster
//! that has never heard of the agent.

use std::time::Duration;

use crate::lab::{ApiServer, Bridge, Container, Down, Expected, Image, Kubelet, Node, assert_attributes};

const README: &str = include_str!("../../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
/// README's own addresses, AS numbers and names are the lab's.
const ADDRESS: &str = "198.51.100.1";
const NODE: &str = "node-1";
/// Taints of a new node, of which the agent takes the first away.
const TAINTS: [&str; 2] = ["node.cloudprovider.kubernetes.io/uninitialized", "of-others"];
/// Twice what the stand-in for the kubelet waits for, and what README has kubectl wait for.
const LIMIT: Duration = Duration::from_secs(330);

/// What the node's own network configuration makes at each boot, as README asks for it.
const SITE: &str = "/etc/network.sh";

/// The code blocks of a text, with the language of each.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let fenced = text.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

/// What stands below a heading of a page.
fn section(page: &'static str, heading: &str) -> &'static str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split_once("\n## ").unwrap().0
}

/// The code blocks of README's numbered steps.
fn steps() -> Vec<Vec<(&'static str, &'static str)>> {
    let section = section(README, "Install");
    let steps: Vec<&str> = section.split("\n**").skip(1).collect();
    (1..).zip(&steps).for_each(|(number, step)| assert!(step.starts_with(&format!("{number}. ")), "{step}"));
    let steps: Vec<_> = steps.into_iter().map(blocks).collect();
    assert_eq!(steps.iter().map(Vec::len).sum::<usize>(), blocks(section).len(), "a block of no step");
    steps
}

/// Takes a line out, and gives it with the rest.
fn without<'a>(script: &'a str, first_words: &str) -> (&'a str, String) {
    let (lines, rest): (Vec<&str>, Vec<&str>) = script.lines().partition(|line| line.starts_with(first_words));
    let [line] = lines.as_slice() else { panic!("{first_words:?} is there {} times:\n{script}", lines.len()) };
    (*line, rest.join("\n"))
}

/// Replaces what is there once.
fn instead(text: &str, this: &str, that: &str) -> String {
    assert_eq!(text.matches(this).count(), 1, "{this:?} in {text}");
    text.replace(this, that)
}

/// A node as Debian's packages leave it, and the address by which it is reached. The lab's image has bgpd on already, and lets watchfrr wait
/// longer, which stays so.
fn a_new_node(bridge: &Bridge) -> Node {
    let network = format!("ip addr add {ADDRESS}/24 dev vec0\nip link set vec0 up");
    let without_bgpd = "sed -i 's/^bgpd=yes/bgpd=no/' /etc/frr/daemons";
    let boot = format!("if [ -e {SITE} ]; then bash -e {SITE}; else {without_bgpd}; fi");
    let node = Node::builder(NODE, Image::Bookworm).nic(bridge);
    let node = node.boot_script(&network).boot_script(&boot).boot();
    node.wait_for_frr();
    let changed = node.run("dpkg --verify frr").stdout;
    assert!(!changed.contains("/etc/frr/frr.conf"), "{changed}");
    assert_eq!(node.run("pidof bgpd").stdout, "");
    node
}

/// Step 1 is for a machine with podman and a registry: what it leaves on the node, and the image's name.
fn built(node: &Node, script: &str) -> String {
    let (copy, rest) = without(script, "scp target/release/network-operator ");
    let folder = copy.split_once(&format!(" root@{NODE}:")).unwrap().1;
    node.ok(&format!("ln -s /labbin/network-operator {folder}"));
    let (push, rest) = without(&rest, "podman push ");
    let (install, rest) = without(&rest, "apt-get install -y ");
    assert!(install.ends_with(" podman"), "{install}");
    assert_eq!(rest, "cargo build --release --locked\nmake image", "what makes the two");
    assert!(include_str!("../../Makefile").contains("\nimage:\n"));
    let [_, _, made, pushed] = push.split(' ').collect::<Vec<_>>()[..] else { panic!("{push}") };
    assert_eq!(made, format!("network-operator:{}", env!("CARGO_PKG_VERSION")), "what `make image` makes");
    pushed.to_owned()
}

/// Step 2. The node has no mirror of Debian: what would be installed must be there.
fn prepared(node: &Node, script: &str) {
    let (install, rest) = without(script, "apt-get install -y ");
    let packages: Vec<&str> = install.trim_start_matches("apt-get install -y ").split(' ').collect();
    assert!(packages.contains(&"frr"), "{install}");
    for package in packages {
        assert_eq!(node.ok(&format!("dpkg-query -W -f '${{Status}}' {package}")), "install ok installed", "{package}");
    }
    node.ok(&format!("set -e\ncd /root\n{rest}"));
    node.wait_for_frr();
    let of_network = |line: &&str| line.starts_with("ip ") || line.starts_with("sysctl ");
    node.write(SITE, rest.lines().filter(of_network).flat_map(|line| [line, "\n"]).collect::<String>());
}

/// Step 3, and what it says of itself.
fn looked(node: &Node, script: &str) {
    let state = || node.ok("ip -o link; ip route; md5sum /etc/frr/*; ls -a /var/lib/network-operator 2>&1 || true");
    let before = state();
    let planned = node.ok(&format!("set -e\ncd /root\n{script}"));
    let expected =
        ["  create vrf vr.blue table 50", "+vrf vr.blue", "+ vni 100", "BGP sessions that end or are reset: none"];
    for line in expected {
        assert!(planned.lines().any(|planned| planned == line), "no {line:?} in:\n{planned}");
    }
    assert_eq!(state(), before);
    let object = blocks(README).into_iter().find(|(language, _)| *language == "yaml").unwrap().1;
    assert_eq!(node.read("/root/blue.yaml").trim(), object.trim(), "the object above");
}

/// Step 4, where this server's release asks for it with the overlay that README names. kubectl of the lab brings a kustomize that is older
/// than README asks for.
fn commands(server: &ApiServer, script: &str) -> String {
    let older = "overlays/kubernetes-before-1.30";
    assert!(README.contains(&format!("before, `{older}` in place of `base` below")));
    let script = if server.knows_policies() {
        script.to_owned()
    } else {
        instead(script, "network-operator/deploy/base", &format!("network-operator/deploy/{older}"))
    };
    instead(&script, "kubectl apply --server-side -k .", "kustomize build . | kubectl apply --server-side -f -")
}

/// All but the age of the only row.
fn row(table: &str) -> Vec<&str> {
    let mut words: Vec<&str> = table.split_whitespace().collect();
    words.pop();
    words
}

#[test]
fn the_commands_of_the_readme_install_it_as_the_readme_says() {
    let steps = steps();
    let [build, prepare, look, apply] = steps.as_slice() else { panic!("{} steps", steps.len()) };
    let ([("sh", build)], [("sh", prepare)]) = (build.as_slice(), prepare.as_slice()) else { panic!("{steps:?}") };
    let ([("sh", look)], [("sh", apply), ("text", table)]) = (look.as_slice(), apply.as_slice()) else {
        panic!("{steps:?}")
    };
    let bridge = Bridge::new();
    let (mut server, mut node) = std::thread::scope(|scope| {
        let server = scope.spawn(|| ApiServer::start(&bridge));
        let node = a_new_node(&bridge);
        (server.join().unwrap(), node)
    });
    server.start_controllers("daemonset");
    let image = built(&node, build);
    prepared(&node, prepare);
    let template = node.read("/etc/frr/frr.conf");
    looked(&node, look);

    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), folder.path().join("network-operator")).unwrap();
    std::fs::write(folder.path().join("blue.yaml"), node.read("/root/blue.yaml")).unwrap();
    let kubelet = Kubelet { node: &node, address: ADDRESS, server: &server };
    kubelet.registers(&TAINTS);
    let script = commands(&server, apply);
    let (container, printed) = std::thread::scope(|scope| {
        let container = scope.spawn(|| kubelet.runs_the_pod_of("kube-system", "network-operator"));
        let printed = server.shell(folder.path(), LIMIT, &script);
        let printed = printed.unwrap_or_else(|error| panic!("{error}\n{}", node.last_words()));
        (container.join().unwrap(), printed)
    });
    assert_eq!(container.image(), image);
    let (_, shown) = printed.split_once("condition met\n").unwrap();
    assert_eq!(row(shown), row(table), "{printed}");
    it_is_on_the_node(&node, &template);
    it_is_told(&server);
    kubelet.assert_confined(&container);
    kubelet.asks(&container, "livenessProbe").unwrap();
    it_is_drained_and_reboots(&mut node, &server, &container);
    it_is_on_the_node(&node, &template);
    it_is_told(&server);
}

/// The commands of docs/operations.md that drain a node, look whether it is back, and give it work again.
pub(super) fn drain_look_uncordon(node: &str) -> [String; 3] {
    let section = section(OPERATIONS, "Draining and rebooting a node");
    let commands = section.split('`').skip(1).step_by(2).filter(|words| words.starts_with("kubectl "));
    let commands: Vec<String> = commands.map(|command| command.replace("NODE", node)).collect();
    commands.try_into().unwrap_or_else(|commands| panic!("{commands:?}"))
}

/// Whether what `look` of these prints has `True` in the column that the page names.
pub(super) fn is_ready(table: &str) -> bool {
    let [columns, row] = [0, 1].map(|line| table.lines().nth(line).map(str::split_whitespace));
    let ready = columns.into_iter().flatten().zip(row.into_iter().flatten()).find(|(column, _)| *column == "READY");
    ready == Some(("READY", "True"))
}

/// By the commands of docs/operations.md, in which nobody touches the agent.
fn it_is_drained_and_reboots(node: &mut Node, server: &ApiServer, container: &Container) {
    let [drain, look, uncordon] = drain_look_uncordon(NODE);
    let folder = tempfile::tempdir().unwrap();
    let done = |command: &str| server.shell(folder.path(), LIMIT, command).unwrap_or_else(|error| panic!("{error}"));
    let pods = || done("kubectl get pods -n kube-system -o name");
    let unschedulable = || done(&format!("kubectl get node {NODE} -o 'jsonpath={{.spec.unschedulable}}'"));
    let state = || (pods(), node.agent_pid(), node.ok("ip -o link"));
    let before = state();
    node.assert_nothing_done(|_| drop(done(&drain)));
    assert_eq!(state(), before, "the agent and its links stay");
    node.reboot(Down::Clean);
    node.wait_for_frr();
    let kubelet = Kubelet { node, address: ADDRESS, server };
    kubelet.runs(container);
    assert_eq!(node.asked(container.probe("readinessProbe").0, "/readyz").1.trim(), "verified");
    node.wait("it is told that the node is ready", LIMIT, |_| {
        let told = done(&look);
        if is_ready(&told) { Ok(()) } else { Err(told) }
    });
    kubelet.assert_confined(container);
    assert_eq!((pods(), unschedulable().as_str()), (before.0, "true"), "who drained it decides when it has work again");
    done(&uncordon);
    assert_eq!(unschedulable(), "");
}

fn it_is_on_the_node(node: &Node, template: &str) {
    let (local, mac) = ("192.0.2.129", "02:54:c0:00:02:81");
    let (vrf, vni, mtu, overlay_mtu, tables) = ("blue", 100, 9000, 9000, 50..=252);
    assert_attributes(&|command| node.ok(command), &Expected { vrf, vni, mtu, overlay_mtu, local, mac, tables });
    let vnis = node.json("vtysh -c 'show vrf vni json'");
    let [known] = vnis["vrfs"].as_array().unwrap().as_slice() else { panic!("{vnis}") };
    assert_eq!((&known["vrf"], &known["vni"], &known["state"]), (&"vr.blue".into(), &100.into(), &"Up".into()));
    let running = node.vtysh("show running-config");
    for line in ["vrf vr.blue", " vni 100", "router bgp 64510 vrf vr.blue", " set community 64510:100"] {
        assert!(running.lines().any(|running| running == line), "no {line:?} in:\n{running}");
    }
    assert_eq!(node.read("/etc/frr/frr.conf.tpl"), template);
}

fn it_is_told(server: &ApiServer) {
    let get = |what: &[&str]| {
        let text = server.kubectl(&[&["get", "-o", "json"], what].concat(), "");
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let state = get(&["nodenetworkstates", NODE]);
    let object = &state["status"]["objects"][0];
    assert_eq!((&object["name"], &object["result"]), (&"blue-main".into(), &"Applied".into()), "{state}");
    let node = get(&["node", NODE]);
    // The API server gives a new node a taint, too.
    let taints: Vec<_> = node["spec"]["taints"].as_array().unwrap().iter().map(|taint| &taint["key"]).collect();
    assert_eq!(TAINTS.map(|key| taints.iter().any(|taint| *taint == key)), [false, true], "{node}");
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "NetworkOperatorReady").unwrap();
    assert_eq!(ready["status"], "True", "{node}");
    // README's patch limits the agents to nodes with a label.
    let set = get(&["daemonset", "network-operator", "-n", "kube-system"]);
    let selector = set["spec"]["template"]["spec"]["nodeSelector"].as_object();
    assert!(selector.is_some_and(|labels| labels.len() == 1), "{set}");
}

#[test]
#[should_panic(expected = "does not know what to make of [\"hostPID\"]")]
fn a_field_of_the_pod_that_the_stand_in_for_the_kubelet_does_not_obey_fails_the_walk() {
    let deployed = include_str!("../../deploy/base/daemonset.yaml");
    let mut pod: serde_json::Value = serde_saphyr::from_str(deployed).unwrap();
    pod = pod["spec"]["template"].take();
    pod["spec"]["hostPID"] = true.into();
    Container::new(&pod);
}
