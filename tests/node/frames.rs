//! The eBPF router on this kernel, attached: frames that BPF_PROG_TEST_RUN cannot make, and the agent of `--only-attach-bpf`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use network_operator::bpf::RouterOp;
use network_operator::bpf::host::HostRouter;
use network_operator::bpf::pins::Pins;
use network_operator::link::netlink::Netlink;

use super::packets::{four, one_hop_on, six, tagged, to_mac, udp4, with};
use super::world::{IN, KNOWN, OUT, World, sh};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/lab/traffic/frames.py");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What comes out of `out` within a second, as hexadecimal.
fn through(frames: &[String]) -> Vec<String> {
    sh(&format!("python3 {SCRIPT} in-p out-p 1 {}", frames.join(" "))).lines().map(str::to_owned).collect()
}

fn attached(world: &World) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let link = "in".parse::<network_operator::model::IfName>().unwrap();
    let ops = [RouterOp::AddQdisc { link: link.clone() }, RouterOp::Attach { link }];
    runtime.block_on(async {
        let host = HostRouter::new(&Netlink::connect().unwrap(), Pins::new(world.pins())).unwrap();
        let (done, errors) = host.apply(&ops).await;
        assert_eq!((done.len(), errors.len()), (2, 0), "{errors:?}");
    });
}

#[test]
fn frames_are_routed_resolved_and_left_to_the_kernel() {
    let world = World::new(false);
    sh(
        "for link in in in-p out out-p; do ip link set dev $link mtu 9000; done; sysctl -qw net.ipv6.conf.all.disable_ipv6=0",
    );
    // The kernel must forward nothing itself: what comes out is the router's.
    sh("nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; policy drop; }'");
    attached(&world);
    let count = |why: &str| world.counted(why);
    let sent = |packet: &[u8]| hex(&[&KNOWN[..], &OUT, &one_hop_on(packet)[12..]].concat());

    for packet in [four("10.9.0.1"), six("fd09::1")] {
        assert!(through(&[hex(&packet)]).contains(&sent(&packet)), "{packet:02x?}");
    }
    // The kernel takes the tag out of the frame before the router sees it (skb_vlan_untag).
    let before = count("VLAN-tagged");
    let out = through(&[hex(&tagged(&four("10.9.0.1"), [0x81, 0]))]);
    assert!(count("VLAN-tagged") > before && out.iter().all(|frame| !frame.contains("0a090001")), "{out:?}");
    let before = count("broken IP header");
    through(&[hex(&four("10.9.0.1")[..30]), hex(&six("fd09::1")[..50])]);
    assert_eq!(count("broken IP header"), before + 2);
    let long = udp4("10.0.1.2", "10.9.0.1", 64, 5000);
    assert!(through(&[format!("paged:{}", hex(&long))]) == [sent(&long)], "it is not in the linear part");
    // 10.0.2.3 is unknown: it is asked for, and the packets that came meanwhile are sent to it.
    let (first, second) = (four("10.8.0.1"), with(four("10.8.0.2"), &[(4, 7)]));
    let out = through(&[hex(&first), hex(&second)]);
    let asked = out.iter().filter(|frame| frame.starts_with("ffffffffffff") && frame.contains("08060001")).count();
    let resolved = |packet: &[u8]| format!("020000000233{}{}", hex(&OUT), hex(&one_hop_on(packet)[12..]));
    assert!(asked >= 1 && out.contains(&resolved(&first)) && out.contains(&resolved(&second)), "{out:#?}");
    let before = count("neither IPv4 nor IPv6");
    let mut arp = to_mac(four("10.0.1.1"), IN);
    arp[12..14].copy_from_slice(&[8, 6]);
    through(&[hex(&arp)]);
    assert_eq!(count("neither IPv4 nor IPv6"), before + 1);
}

/// Ends with this value.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LINKS: &str = "
mount --make-rprivate /; mount -t bpf bpf /sys/fs/bpf; ip link set lo up
ip link add name dum.underlay mtu 9100 type veth peer name under; ip addr add 192.0.2.129/32 dev dum.underlay; ip link set dum.underlay up
ip link add name site type veth peer name site-p; ip link add name br.a type bridge; ip link add name vd.a type veth peer name dv.a
ip link add name vx.a type vxlan id 100 local 192.0.2.129 dev dum.underlay dstport 4789; ip link set vx.a master br.a
ip link add name br.b type bridge
for link in br.a vd.a dv.a vx.a; do ip link set $link alias network-operator; done";

/// For bash: what the agent tells of itself.
const METRICS: &str = r#"exec 3<>/dev/tcp/127.0.0.1/9342; printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; cat <&3"#;

/// Waits for a condition of a shell, and gives how long it took.
fn comes(log: &Path, what: &str, limit: Duration) -> Duration {
    let begin = Instant::now();
    while !Command::new("sh").args(["-c", what]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    {
        assert!(
            begin.elapsed() < limit,
            "not within {limit:?}: {what}\n{}",
            sh("nft list ruleset; tc qdisc show; ls -R /sys/fs/bpf") + &std::fs::read_to_string(log).unwrap()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

#[test]
fn only_attach_bpf_attaches_repairs_within_two_seconds_and_takes_all_away() {
    // Also the mounts: its pins are in the place that the agent has them in.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    sh(LINKS);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let write = |text: &str| std::fs::write(&config, text).unwrap();
    write("bpfInterfaces: [site, later]\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_network-operator"));
    command.args(["run", "--only-attach-bpf", "--node-name", "n", "--debounce", "100ms", "--check-interval", "0s"]);
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    command.args(["--repairs-per-minute", "60", "--config"]).arg(&config).stderr(log);
    let mut agent = Agent(command.spawn().unwrap());
    let path = folder.path().join("log");
    let (long, soon) = (Duration::from_secs(20), Duration::from_secs(2));
    let seen = |what: &str, limit| comes(&path, &format!("METRICS='{METRICS}'; {what}"), limit);
    let on = |link: &str| format!("tc filter show dev {link} ingress | grep -q 'pref 20000 .*network-operator'");
    for link in ["site", "br.a", "vx.a", "vd.a"] {
        seen(&on(link), long);
    }
    let table = "nft list table inet network-operator";
    seen(&format!("{table} | tr -d ' \\n\\t' | grep -q '\"br.a\",\"vd.a\"'; {table} | grep -q 192.0.2.129"), long);
    let none = sh("tc filter show dev br.b ingress; tc filter show dev dv.a ingress; tc qdisc show dev br.b");
    assert!(!none.contains("bpf") && !none.contains("clsact"), "foreign and of the default VRF: {none}");
    // One link is missing all the time.
    let counted = |sample: &str| format!("bash -c \"$METRICS\" | grep -q '^network_operator_{sample} [1-9]'");
    for sample in [
        "runs_total{result=\"failed\"}",
        "netlink_operations_total{operation=\"attach\"}",
        "netlink_operations_total{operation=\"write-notrack\"}",
        "step_duration_seconds_count{step=\"router\"}",
    ] {
        seen(&counted(sample), long);
    }
    sh("ip link add name later type veth peer name later-p");
    seen(&on("later"), soon);
    for (change, back) in [
        ("tc filter del dev br.a ingress pref 20000", on("br.a")),
        ("tc qdisc del dev vx.a clsact", on("vx.a")),
        ("ip link del later", "true".to_owned()),
        ("nft delete element inet network-operator links '{ \"br.a\" }'", format!("{table} | grep -q br.a")),
        ("nft flush chain inet network-operator output", format!("{table} | grep -q saddr")),
        ("nft delete table inet network-operator", format!("{table} | grep -q saddr")),
    ] {
        sh(change);
        let took = seen(&back, long);
        assert!(took < soon, "{change}: {took:?}");
    }
    sh(
        "cd /sys/fs/bpf/network-operator; tc filter add dev site egress pref 1 bpf da object-pinned $PWD/$(ls | grep router)",
    );
    write("bpf: {enabled: false}\nbpfInterfaces: [site]\n");
    seen("! test -e /sys/fs/bpf/network-operator", long);
    seen(&format!("! {table}"), long);
    let left = sh(
        "for link in site br.a vx.a vd.a; do tc qdisc show dev $link; tc filter show dev $link ingress; done; tc filter show dev site egress",
    );
    assert!(left.contains("pref 1 bpf") && !left.contains("network-operator"), "{left}");
    assert_eq!(left.matches("clsact").count(), 1, "somebody's filter is in it: {left}");
    write("bpfInterfaces: [site]\n");
    seen(&on("vx.a"), long);
    sh("rm /sys/fs/bpf/network-operator/*; tc filter del dev vd.a ingress pref 20000");
    seen(&on("vd.a"), soon);
    seen("ls /sys/fs/bpf/network-operator | grep router", soon);
    assert!(agent.0.try_wait().unwrap().is_none(), "it goes on");
}
