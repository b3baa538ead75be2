//! The eBPF router on the lab's node: what it carries, what it leaves alone, and that it stays.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::lab::{Bridge, FROM_MANIFESTS, Fabric, Image, MANIFESTS, Node, Spelling, lab_file};

const LIMIT: Duration = Duration::from_secs(120);
const CONFIG: &str = "/opt/network-operator/config.yaml";
const FILTERS: &str =
    "for link in $(ls /sys/class/net); do tc filter show dev $link ingress | sed \"s/^/$link: /\"; done";
/// Of 64 packets one goes through the neighbour table; most never show in a netfilter hook.
const PING: &str = "ping -q -i 0.02 -c 50 -W 5";

fn of_traffic(netns: &str, what: &str) -> String {
    format!("ip netns exec {netns} python3 /root/traffic.py {what}")
}

fn traffic(node: &Node, netns: &str, what: &str) -> String {
    node.ok(&of_traffic(netns, what))
}

/// Packets of kinds that the router has counted, by why.
fn counters(node: &Node) -> BTreeMap<String, u64> {
    let counters = node.json("/labbin/network-operator counters --all --output json");
    let counters = counters.as_array().unwrap().iter();
    counters
        .map(|counter| (counter["reason"].as_str().unwrap().to_owned(), counter["packets"].as_u64().unwrap()))
        .collect()
}

/// Packets that were sent on by the router.
fn routed(node: &Node) -> u64 {
    let counters = counters(node);
    ["routed", "routed, and its neighbour looked after", "its neighbour is to be found"]
        .iter()
        .map(|why| counters[*why])
        .sum()
}

/// Packets that came to netfilter by a link of VRF blue or red.
fn hooked(node: &Node) -> u64 {
    let rules = ["iptables", "ip6tables"].map(|tool| node.ok(&format!("{tool}-legacy -t raw -vnxL PREROUTING")));
    let of_vrf = |line: &&str| ["vr.", "br.", "vd."].iter().any(|prefix| line.contains(prefix));
    let packets = |line: &str| line.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    rules.iter().flat_map(|rules| rules.lines().filter(of_vrf).map(packets).collect::<Vec<_>>()).sum()
}

/// How many packets conntrack counts for each of 50 that go out to host blue and 50 that come back: as often as they pass it.
fn counted_by_conntrack(node: &Node) -> u64 {
    traffic(node, "pod", "echo 203.0.113.6 50 198.51.100.66");
    // The list is read in pieces, and where a flow ends between two of them another one is left out (`ct_seq_start`).
    let flows = node.wait("the flow in conntrack's list", LIMIT, |node| {
        let found = node.run("grep 'dst=203.0.113.6 .* dport=5002 ' /proc/net/nf_conntrack");
        if found.status == 0 { Ok(found.stdout) } else { Err(node.ok("cat /proc/net/nf_conntrack")) }
    });
    let counts = flows.split_whitespace().filter_map(|word| word.strip_prefix("packets=")?.parse().ok());
    counts.max().unwrap_or_else(|| panic!("conntrack counts: {flows}"))
}

fn boot() -> Fabric {
    let fabric = Fabric::boot(Image::Trixie, Spelling::Plain);
    let Fabric { node, leaf, .. } = &fabric;
    for machine in [node, leaf] {
        machine.write("/root/traffic.py", lab_file("traffic/traffic.py"));
    }
    node.write("/root/pod.sh", lab_file("traffic/pod.sh"));
    leaf.write("/root/hosts.sh", lab_file("traffic/hosts.sh"));
    node.ok("sh -e /root/pod.sh");
    leaf.ok("sh -e /root/hosts.sh");
    // What counts packets of VRFs at the first hook, and what makes the kernel track connections.
    for tool in ["iptables-legacy", "ip6tables-legacy"] {
        for link in ["vr", "br", "vd"].iter().flat_map(|role| ["blue", "red"].map(|vrf| format!("{role}.{vrf}"))) {
            node.ok(&format!("{tool} -t raw -A PREROUTING -i {link}"));
        }
        node.ok(&format!("{tool} -A FORWARD -m conntrack --ctstate INVALID"));
    }
    node.ok("sysctl -qw net.netfilter.nf_conntrack_acct=1");
    for (machine, netns, address) in [
        (node, "pod", "198.51.100.66"),
        (node, "pod", "2001:db8:c1::66"),
        (node, "pod", "198.51.100.130"),
        (leaf, "blue", "203.0.113.6"),
        (leaf, "blue", "2001:db8:1:2::2"),
        (leaf, "red", "203.0.113.34"),
    ] {
        machine.ok(&format!("ip netns exec {netns} setsid python3 /root/traffic.py serve {address} >/dev/null 2>&1 &"));
    }
    node.give_manifests();
    // Narrower than the way to it.
    node.ok(&format!("sed -i 's/mtu: 1500/mtu: 1280/' {MANIFESTS}/red.yaml"));
    node.start_agent(FROM_MANIFESTS);
    node.applied(0, LIMIT);
    fabric.assert_claims(LIMIT);
    fabric
}

/// The ways through VRF blue and red, as (machine, namespace, address of the other end, own address where several may be).
fn ways(fabric: &Fabric) -> [(&Node, &'static str, &'static str, &'static str); 6] {
    let Fabric { node, leaf, .. } = fabric;
    [
        (node, "pod", "203.0.113.6", "198.51.100.66"),
        (node, "pod", "2001:db8:1:2::2", "2001:db8:c1::66"),
        (node, "pod", "203.0.113.34", "198.51.100.130"),
        (leaf, "blue", "198.51.100.66", "203.0.113.6"),
        (leaf, "blue", "2001:db8:c1::66", "2001:db8:1:2::2"),
        (leaf, "red", "198.51.100.130", "203.0.113.34"),
    ]
}

/// What both machines say of packets that they lost.
fn drops(fabric: &Fabric) -> String {
    let Fabric { node, leaf, .. } = fabric;
    let counters = |machine: &Node| {
        let said = machine.run(
            "uptime; vmstat 1 2; for netns in '' $(ip netns list | cut -d' ' -f1); do at=${netns:+ip netns exec $netns}; \
             echo \"== ${netns:-machine}\"; $at ip -s -s neigh; $at ip -s link; $at grep -E 'Ip:|Icmp:|Udp:' /proc/net/snmp; \
             $at grep -vP '\\t0$' /proc/net/snmp6; done; cat /proc/net/softnet_stat /proc/net/stat/*_cache; \
             vtysh -c 'show bgp summary'; dmesg | tail -20",
        );
        format!("{}:\n{}{}", machine.name(), said.stdout, said.stderr)
    };
    format!("{}\n{}", counters(node), counters(leaf))
}

/// Ping, TCP and UDP on every way; gives how many packets were routed, and how many netfilter saw.
fn everything_passes(fabric: &Fabric) -> (u64, u64) {
    let before = hooked(&fabric.node);
    let loaded = fabric.node.run("/labbin/network-operator counters").status == 0;
    let counted = if loaded { routed(&fabric.node) } else { 0 };
    for (machine, netns, to, from) in ways(fabric) {
        // MTUs are found out once (RFC 1191), and TCP gets through whatever they are.
        machine.ok(&format!("ip netns exec {netns} {PING} -I {from} {to}"));
        traffic(machine, netns, &format!("fetch {to} 1000000 {from}"));
        let echoed = machine.run(&of_traffic(netns, &format!("echo {to} 50 {from}")));
        assert!(echoed.status == 0, "{netns} to {to}: {}\n{}", echoed.stderr, drops(fabric));
    }
    let after = if loaded { routed(&fabric.node) } else { 0 };
    (after - counted, hooked(&fabric.node) - before)
}

/// The hops to a host, as traceroute numbers them, without times.
fn hops(node: &Node, to: &str) -> Vec<String> {
    let out = node.ok(&format!("ip netns exec pod traceroute -n -q 1 -w 3 -N 1 {to}"));
    let hop = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    out.lines().skip(1).map(hop).collect()
}

#[test]
fn ping_tcp_and_udp_pass_vrfs_both_ways_without_netfilter_and_hops_and_mtus_are_as_without_the_router() {
    let fabric = boot();
    let node = &fabric.node;
    node.comes_first();
    fabric.leaf.comes_first();
    let (packets, seen) = everything_passes(&fabric);
    // Too big ones, and those that come before a neighbour is known to the kernel, pass the stack.
    assert!(packets > 2000 && seen * 20 < packets, "{packets} routed, {seen} seen by netfilter: {:?}", counters(node));
    assert_eq!(counted_by_conntrack(node), 50, "each packet is tracked once, in the default VRF");
    let too_big = counters(node)["it is too long for the next link"];
    assert!(too_big > 0, "vd.red is narrower than the fabric: {:?}", counters(node));
    let with = ["203.0.113.6", "203.0.113.34", "2001:db8:1:2::2"].map(|to| hops(node, to));
    assert_eq!(with.each_ref().map(Vec::len), [5, 4, 5], "the VRF is a hop: {with:?}");
    // The other way round: without the router all is as slow and as right as ever.
    node.ok(&format!("sed -i 's/^bpf: .*/bpf: {{enabled: false, notrack: false}}/' {CONFIG}"));
    node.applied(1, LIMIT);
    let (packets, seen) = everything_passes(&fabric);
    assert!(packets == 0 && seen > 2000, "{packets} routed, {seen} seen by netfilter");
    assert!(counted_by_conntrack(node) >= 100, "{}", node.ok("cat /proc/net/nf_conntrack"));
    assert_eq!(["203.0.113.6", "203.0.113.34", "2001:db8:1:2::2"].map(|to| hops(node, to)), with);
}

/// The line that a file comes to hold.
fn line(machine: &Node, file: &str) -> String {
    machine.wait(file, LIMIT, |machine| {
        let line = machine.run(&format!("cat {file}")).stdout;
        if line.ends_with('\n') { Ok(line.trim().to_owned()) } else { Err(line) }
    })
}

/// Numbered packets both ways, for a minute at least and for as long as something is done to the agent.
#[test]
fn no_packet_of_a_stream_is_lost_and_counters_go_on_when_the_agent_is_killed_restarted_and_upgraded() {
    let fabric = boot();
    let Fabric { node, leaf, .. } = &fabric;
    node.comes_first();
    leaf.comes_first();
    let (rate, seconds) = (200, 60);
    let listen = |machine: &Node, netns: &str, address: &str| {
        machine.ok(&format!(
            "ip netns exec {netns} setsid python3 /root/traffic.py listen {address} /root/heard >/dev/null 2>&1 &"
        ));
    };
    listen(node, "pod", "198.51.100.66");
    listen(leaf, "blue", "203.0.113.6");
    let send = |machine: &Node, netns: &str, to: &str| {
        machine.ok(&format!(
            "ip netns exec {netns} setsid python3 /root/traffic.py stream {to} {rate} {seconds} /root/stop >/dev/null 2>&1 &"
        ));
    };
    for (machine, netns) in [(node, "pod"), (leaf, "blue")] {
        machine.wait("it listens", LIMIT, |machine| {
            let sockets = machine.ok(&format!("ip netns exec {netns} ss -uln"));
            if sockets.contains(":5003") { Ok(()) } else { Err(sockets) }
        });
    }
    let before = routed(node);
    send(node, "pod", "203.0.113.6");
    send(leaf, "blue", "198.51.100.66");
    let mut last = counters(node);
    let mut monotonic = |when: &str| {
        let now = counters(node);
        last.iter().for_each(|(why, packets)| assert!(now[why] >= *packets, "{when}: {why}: {packets} {}", now[why]));
        last = now;
    };
    let program = || node.ok("tc filter show dev br.blue ingress | grep -o ' id [0-9]*'");
    let first = program();
    node.ok("systemctl kill -s KILL network-operator");
    monotonic("killed");
    let ended = node.says("run ended");
    node.start_agent(FROM_MANIFESTS);
    node.agent_says("run ended", ended, LIMIT);
    monotonic("started");
    assert_eq!(program(), first, "the same build goes on with its program");
    let pin = || node.ok("cd /sys/fs/bpf/network-operator && echo router-*");
    let older = pin();
    let agent = node.share("another-build");
    std::fs::write(&agent, another_build()).unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
    node.stop_agent();
    node.ok("mount --bind /lab/another-build /labbin/network-operator");
    let replaced = node.says("replace the eBPF router of br.blue");
    node.start_agent(FROM_MANIFESTS);
    node.agent_says("replace the eBPF router of br.blue", replaced, LIMIT);
    monotonic("upgraded");
    assert_ne!(program(), first);
    node.wait("the older build's pin goes", LIMIT, |_| {
        let pins = pin();
        if pins.split_whitespace().count() == 1 && pins != older { Ok(()) } else { Err(pins) }
    });
    let mut sent = Vec::new();
    for machine in [node, leaf] {
        machine.ok("touch /root/stop");
        sent.push(line(machine, "/root/stop.sent").parse::<u64>().unwrap());
    }
    for (machine, sent) in [(leaf, sent[0]), (node, sent[1])] {
        let heard = line(machine, "/root/heard");
        assert!(sent >= rate * seconds);
        assert_eq!(heard, format!("{sent} {} 0", sent - 1), "{}: packets, highest, missing", machine.name());
    }
    let sent: u64 = sent.iter().sum();
    monotonic("at the end");
    assert!(routed(node) - before >= sent, "{} of {sent}", routed(node) - before);
}

/// The agent with another program for the router: one that looks after a neighbour a nanosecond later.
fn another_build() -> Vec<u8> {
    let mut agent = std::fs::read(env!("CARGO_BIN_EXE_network-operator")).unwrap();
    // A 64-bit little-endian ELF object (`ET_REL`) for eBPF (`EM_BPF`).
    let object = agent
        .windows(20)
        .position(|bytes| bytes.starts_with(b"\x7fELF\x02\x01\x01") && bytes.ends_with(&[1, 0, 247, 0]))
        .expect("the program is in the agent");
    let refresh = 1_000_000_000_u32.to_le_bytes();
    let place = agent[object..].windows(4).position(|bytes| bytes == refresh).expect("REFRESH of router.bpf.c");
    assert!(place < 8192, "in the program, which comes first in the object: {place}");
    agent[object + place..][..4].copy_from_slice(&1_000_000_001_u32.to_le_bytes());
    agent
}

/// What was removed by hand is back within two seconds of being noticed: see drift.rs.
#[test]
fn the_sites_filters_stay_a_missing_link_is_told_of_and_off_leaves_nothing_behind() {
    let bridge = Bridge::new();
    let node = Node::of_the_lab(&bridge, Image::Bookworm, Spelling::Plain);
    node.ok(&format!(
        "sed -i 's/^bpf: .*/bpf: {{notrack: false}}\\nbpfInterfaces: [site0, later0, vr-mine]/' {CONFIG}"
    ));
    node.ok("ip link add site0 type veth peer name site1; ip link set site0 up; ip link set site1 up");
    node.ok("tc qdisc add dev site0 clsact; tc filter add dev site0 ingress pref 10 matchall action continue");
    node.ok("tc filter add dev site0 ingress pref 11 protocol ip u32 match ip dst 203.0.113.9 action drop");
    node.ok("tc filter add dev site0 egress pref 12 protocol ip flower dst_ip 203.0.113.8 action drop");
    node.ok("tc filter add dev site0 ingress pref 30000 protocol ip basic action continue");
    let foreign = |node: &Node| {
        node.ok("for way in ingress egress; do tc filter show dev site0 $way; done | grep -v -e 'pref 20000' -e network-operator")
    };
    let before = foreign(&node);
    node.give_manifests();
    node.start_agent(FROM_MANIFESTS);
    node.applied(0, LIMIT);
    let attached = |node: &Node, links: &[&str]| {
        let filters = node.ok(FILTERS);
        let now: Vec<&str> = filters
            .lines()
            .filter(|line| line.contains(" network-operator "))
            .filter_map(|line| line.split(": ").next())
            .collect();
        if now == links { Ok(()) } else { Err(format!("{now:?} in\n{filters}")) }
    };
    let vrfs = ["br.blue", "br.red", "site0", "vd.blue", "vd.red", "vx.blue", "vx.red"];
    node.wait("the router is attached", LIMIT, |node| attached(node, &vrfs));
    for words in ["link later0 is not there", "link vr-mine cannot have the eBPF router"] {
        assert_eq!(node.says(words), 1, "{}", node.agent_log());
    }
    node.ok("ip link add later0 type veth peer name later1");
    let all = ["br.blue", "br.red", "later0", "site0", "vd.blue", "vd.red", "vx.blue", "vx.red"];
    node.wait("it is attached when it appears", Duration::from_secs(10), |node| attached(node, &all));
    node.ok(
        "tc filter add dev later0 egress pref 5 matchall action continue; tc filter del dev site0 ingress pref 20000",
    );
    node.wait("it is put back", Duration::from_secs(10), |node| attached(node, &all));
    node.assert_nothing_done(|node| drop(node.run("sleep 3")));
    node.ok(&format!("sed -i 's/^bpf: .*/bpf: {{enabled: false}}/' {CONFIG}"));
    node.wait("it is detached", LIMIT, |node| attached(node, &[]));
    node.wait("its pins are gone", LIMIT, |node| {
        let pins = node.run("ls /sys/fs/bpf/network-operator");
        if pins.status != 0 { Ok(()) } else { Err(pins.stdout) }
    });
    assert_eq!(foreign(&node), before);
    let qdiscs = node.ok("tc qdisc show | grep clsact | grep -o 'dev [^ ]*'");
    assert_eq!(qdiscs, "dev site0\ndev later0\n", "ours are gone, but for the one that somebody uses");
    // On again, on what is left.
    node.ok(&format!("sed -i 's/^bpf: .*/bpf: {{notrack: false}}/' {CONFIG}"));
    node.wait("it is attached again", LIMIT, |node| attached(node, &all));
    assert_eq!(foreign(&node), before);
}

/// The kernel of the lab has no nftables of family inet.
#[test]
fn a_router_that_is_not_all_there_keeps_nothing_else_from_its_work() {
    let bridge = Bridge::new();
    let node = Node::of_the_lab(&bridge, Image::Trixie, Spelling::Plain);
    node.ok(&format!("sed -i 's/^bpf: .*/bpf: {{notrack: true}}/' {CONFIG}"));
    node.ok("umount /sys/fs/bpf");
    node.give_manifests();
    node.start_agent(FROM_MANIFESTS);
    node.applied(0, LIMIT);
    node.ok("ip link show vx.blue up; vtysh -c 'show running-config' | grep 'router bgp 64510 vrf vr.blue'");
    node.agent_says("is not on a bpffs: mount one", 0, LIMIT);
    node.ok("mount -t bpf bpf /sys/fs/bpf");
    node.agent_says("CONFIG_NF_TABLES_INET", 0, Duration::from_secs(180));
}
