//! Our nftables table on a real kernel, in a network namespace of its own: as nft prints it, changed by nft, and what it does
//! to packets.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use network_operator::notrack::netfilter::Netfilter;
use network_operator::notrack::{Notrack, NotrackError, ObservedNotrack};
use network_operator::trigger::{Trigger, nftables};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::world::sh;

const GOLDEN: &str = "table inet network-operator {
\tset links {
\t\ttype ifname
\t\telements = { \"def2cluster1234\",
\t\t\t     \"v0\" }
\t}

\tchain prerouting {
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifname @links notrack
\t\tip daddr 192.0.2.129 udp dport 4789 notrack
\t}

\tchain output {
\t\ttype filter hook output priority raw; policy accept;
\t\toifname @links notrack
\t\tip saddr 192.0.2.129 udp dport 4789 notrack
\t}
}
";

const OTHER: &str = "table inet other {
\tset links {
\t\ttype ifname
\t\telements = { \"eth0\" }
\t}

\tchain prerouting {
\t\ttype filter hook prerouting priority filter; policy accept;
\t\tct state new counter packets 0 bytes 0 comment \"new\"
\t\tct state untracked counter packets 0 bytes 0 comment \"untracked\"
\t}

\tchain output {
\t\ttype filter hook output priority filter; policy accept;
\t\tct state new counter packets 0 bytes 0 comment \"new\"
\t\tct state untracked counter packets 0 bytes 0 comment \"untracked\"
\t}
}
";

fn nft(commands: &str) -> String {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft: {commands}");
    String::from_utf8(output.stdout).unwrap()
}

/// Our table as nft prints it; the order of the elements is that of the kernel's hash, anew for every set.
fn ours() -> String {
    let turned = "\"v0\",\n\t\t\t     \"def2cluster1234\" }";
    nft("list table inet network-operator\n").replace(turned, "\"def2cluster1234\",\n\t\t\t     \"v0\" }")
}

/// In a new network namespace of its own thread; what it starts is there, too.
fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up");
        test()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn observe() -> ObservedNotrack {
    block_on(async { Netfilter::connect().unwrap().observe().await }).unwrap()
}

fn try_write(want: &Notrack) -> Result<(), NotrackError> {
    block_on(async { Netfilter::connect().unwrap().write(want).await })
}

fn write(want: &Notrack) {
    try_write(want).unwrap();
    assert_eq!(observe(), ObservedNotrack::Rules(want.clone()));
}

fn remove() {
    block_on(async { Netfilter::connect().unwrap().remove().await }).unwrap();
    assert_eq!(observe(), ObservedNotrack::Absent);
}

fn notrack(links: &[&str], vtep: Option<&str>) -> Notrack {
    let links = links.iter().map(|link| link.parse().unwrap()).collect();
    Notrack { links, vtep: vtep.map(|vtep| vtep.parse().unwrap()) }
}

fn both() -> Notrack {
    notrack(&["v0", "def2cluster1234"], Some("192.0.2.129"))
}

fn written_read_rewritten_and_removed() {
    nft(OTHER);
    let others = nft("list table inet other\n");
    assert_eq!(observe(), ObservedNotrack::Absent);
    remove();
    write(&both());
    assert_eq!(ours(), GOLDEN);
    write(&both());
    assert_eq!(ours(), GOLDEN, "again");
    write(&notrack(&["a"], None));
    write(&notrack(&[], Some("198.51.100.1")));
    write(&notrack(&[], None));
    let many: Vec<String> = (0..2500).map(|number| format!("link{number}")).collect();
    write(&notrack(&many.iter().map(String::as_str).collect::<Vec<_>>(), None));
    write(&both());
    assert_eq!(ours(), GOLDEN, "after others");
    remove();
    remove();
    assert_eq!(nft("list table inet other\n"), others, "nobody else's table was touched");
    // What nft writes is what we write.
    nft(GOLDEN);
    assert_eq!(observe(), ObservedNotrack::Rules(both()));
    remove();
}

fn what_nft_changes_is_seen() {
    const T: &str = "inet network-operator";
    let altering = [
        format!("add rule {T} output accept"),
        format!("insert rule {T} prerouting iifname v0 drop"),
        format!("add rule {T} prerouting oifname @links notrack"),
        format!("flush chain {T} output"),
        format!("flush table {T}"),
        format!("add chain {T} third"),
        format!("add set {T} more {{ type ifname; }}"),
        format!("add counter {T} seen"),
        format!("add chain {T} output {{ policy drop; }}"),
        format!("add table {T} {{ flags dormant; }}"),
        format!("delete table {T}; add table {T}"),
    ];
    for change in &altering {
        write(&both());
        nft(&format!("{change}\n"));
        assert_eq!(observe(), ObservedNotrack::Altered, "{change}");
        write(&both());
        assert_eq!(ours(), GOLDEN, "{change}");
    }
    for chain in ["prerouting", "output"] {
        for line in 1..=2 {
            write(&both());
            let listed = sh(&format!("nft -a list chain {T} {chain}"));
            let handle = listed.lines().filter(|text| text.contains("notrack #")).nth(line - 1).unwrap();
            let handle = handle.rsplit_once(' ').unwrap().1;
            nft(&format!("delete rule {T} {chain} handle {handle}\n"));
            assert_eq!(observe(), ObservedNotrack::Altered, "{chain} {line}");
        }
    }
    for (from, to) in [
        ("priority raw", "priority -299"),
        ("hook output", "hook postrouting"),
        ("type filter hook output", "type route hook output"),
        ("type ifname", "type ifname; flags interval"),
        ("type ifname", "type ifname; flags dynamic,timeout"),
        ("type ifname", "type ifname; size 9"),
        ("\"v0\"", "\"v0\" counter"),
        ("oifname @links", "oifname != @links"),
        ("oifname @links", "oifname @links counter"),
        ("iifname @links", "oifname @links"),
        ("udp dport 4789", "udp sport 4789"),
        ("ip saddr 192.0.2.129", "ip saddr 192.0.2.130"),
        ("ip saddr 192.0.2.129", "ip saddr != 192.0.2.129"),
        ("notrack\n\t\tip daddr", "accept\n\t\tip daddr"),
    ] {
        remove();
        let text = GOLDEN.replacen(from, to, 1);
        assert_ne!(text, GOLDEN, "{from}");
        let text = if to.contains("counter") && from.contains("v0") {
            text.replace("\"def2cluster1234\",", "\"def2cluster1234\" counter,")
                .replace("type ifname", "type ifname; counter")
        } else {
            text
        };
        nft(&text);
        assert_eq!(observe(), ObservedNotrack::Altered, "{to}");
    }
    write(&both());
    nft(&format!("delete element {T} links {{ v0 }}\n"));
    assert_eq!(observe(), ObservedNotrack::Rules(notrack(&["def2cluster1234"], Some("192.0.2.129"))));
    nft(&format!("add element {T} links {{ v0 comment \"mine\" }}\n"));
    assert_eq!(observe(), ObservedNotrack::Rules(both()));
    nft("add table ip network-operator\nadd chain ip network-operator output\n");
    assert_eq!(observe(), ObservedNotrack::Rules(both()), "another family");
    remove();
    assert!(nft("list tables\n").contains("table ip network-operator"));
}

/// A namespace beside this one, at the far end of a link.
struct Far(Child);

impl Far {
    fn new() -> Self {
        let far = Self::beside();
        let id = far.0.id();
        sh(&format!(
            "ip link add v0 type veth peer name far netns {id}; ip addr add 10.9.0.1/24 dev v0; ip link set v0 up
             ip addr add 192.0.2.129/32 dev lo
             nsenter -t {id} -n ip link set lo up; nsenter -t {id} -n ip link set far up
             nsenter -t {id} -n ip addr add 10.9.0.2/24 dev far
             nsenter -t {id} -n ip route add 192.0.2.129 via 10.9.0.1"
        ));
        far
    }

    /// Two of them, on both sides of a VRF: 10.9.0.2 on bridge `br.blue`, 10.8.0.2 behind `vd.blue`.
    fn around_a_vrf() -> [Self; 2] {
        let both = [Self::beside(), Self::beside()];
        let [fabric, cluster] = both.each_ref().map(|far| far.0.id());
        sh(&format!(
            "echo 1 >/proc/sys/net/ipv4/ip_forward
             ip link add vr.blue type vrf table 50; ip link set vr.blue up
             ip link add br.blue master vr.blue type bridge; ip addr add 10.9.0.1/24 dev br.blue; ip link set br.blue up
             ip link add v0 master br.blue type veth peer name far netns {fabric}; ip link set v0 up
             ip link add vd.blue master vr.blue type veth peer name far netns {cluster}
             ip addr add 10.8.0.1/24 dev vd.blue; ip link set vd.blue up
             nsenter -t {fabric} -n ip addr add 10.9.0.2/24 dev far; nsenter -t {fabric} -n ip link set far up
             nsenter -t {fabric} -n ip route add default via 10.9.0.1
             nsenter -t {cluster} -n ip addr add 10.8.0.2/24 dev far; nsenter -t {cluster} -n ip link set far up"
        ));
        both
    }

    fn beside() -> Self {
        let child = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let far = Self(child);
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        while std::fs::read_link(format!("/proc/{}/ns/net", far.0.id())).unwrap() == own {
            std::thread::sleep(Duration::from_millis(5));
        }
        far
    }

    fn sends(&self, to: &str, port: u16) {
        let id = self.0.id();
        sh(&format!("nsenter -t {id} -n bash -c 'echo hello >/dev/udp/{to}/{port}'"));
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Packets that table `other` counted in that chain.
fn counted(chain: &str, state: &str) -> u64 {
    let listed = sh(&format!("nft list chain inet other {chain}"));
    let line = listed.lines().find(|line| line.contains(&format!("ct state {state} "))).unwrap().to_owned();
    let count = line.split("packets ").nth(1).unwrap().split(' ').next().unwrap();
    count.parse().unwrap()
}

fn tracked(port: u16) -> bool {
    let known = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
    known.contains(&format!("dport={port} "))
}

fn packets_of_links_and_of_the_vtep_leave_no_trace_in_conntrack() {
    nft(OTHER);
    let far = Far::new();
    let near = UdpSocket::bind("10.9.0.1:0").unwrap();
    // A socket that takes packets, lest ICMP errors are counted.
    let _open: Vec<_> = [1001, 1002, 1003, 4789].map(|port| UdpSocket::bind(("0.0.0.0", port)).unwrap()).into();
    let all = || ["prerouting", "output"].map(|chain| ["new", "untracked"].map(|state| counted(chain, state)));
    let before = all();
    far.sends("10.9.0.1", 1001);
    near.send_to(b"x", "10.9.0.2:2001").unwrap();
    let after = all();
    assert!(after[0][0] > before[0][0] && after[1][0] > before[1][0], "without rules: {before:?} {after:?}");
    assert!(tracked(1001) && tracked(2001));

    write(&notrack(&["v0"], None));
    let before = all();
    far.sends("10.9.0.1", 1002);
    near.send_to(b"x", "10.9.0.2:2002").unwrap();
    let after = all();
    assert!(after[0][1] > before[0][1] && after[1][1] > before[1][1], "{before:?} {after:?}");
    assert_eq!([after[0][0], after[1][0]], [before[0][0], before[1][0]]);
    assert!(!tracked(1002) && !tracked(2002));

    write(&notrack(&[], Some("192.0.2.129")));
    let before = all();
    far.sends("192.0.2.129", 4789);
    UdpSocket::bind("192.0.2.129:0").unwrap().send_to(b"x", "10.9.0.2:4789").unwrap();
    let after = all();
    assert!(after[0][1] > before[0][1] && after[1][1] > before[1][1], "{before:?} {after:?}");
    assert!(!tracked(4789));
    far.sends("192.0.2.129", 1003);
    near.send_to(b"x", "10.9.0.2:4789").unwrap();
    assert!(tracked(1003) && tracked(4789), "another port, another source");
}

/// From the fabric through the VRF, to the VRF, and from it, to these ports.
fn packets_of_the_vrf(fabric: &Far, through: u16, to: u16, from: u16) -> [bool; 3] {
    let sent = || {
        let shown: serde_json::Value = serde_json::from_str(&sh("ip -j -s link show dev vd.blue")).unwrap();
        shown[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    let before = sent();
    fabric.sends("10.8.0.2", through);
    let end = Instant::now() + Duration::from_secs(20);
    while sent() == before {
        assert!(Instant::now() < end, "nothing leaves by vd.blue");
        std::thread::sleep(Duration::from_millis(20));
    }
    block_on(async {
        // A socket that takes packets, lest ICMP errors are counted.
        let socket = tokio::net::UdpSocket::bind(("0.0.0.0", to)).await.unwrap();
        socket.bind_device(Some(b"vr.blue")).unwrap();
        fabric.sends("10.9.0.1", to);
        socket.recv_from(&mut [0; 9]).await.unwrap();
        socket.send_to(b"x", ("10.9.0.2", from)).await.unwrap();
    });
    [through, to, from].map(tracked)
}

fn packets_of_a_vrf_leave_no_trace_in_conntrack() {
    nft(OTHER);
    let [fabric, _cluster] = Far::around_a_vrf();
    let new = || ["prerouting", "output"].map(|chain| counted(chain, "new"));
    let before = new();
    assert_eq!(packets_of_the_vrf(&fabric, 3001, 3002, 3003), [true; 3], "without rules");
    assert!(new()[0] > before[0] && new()[1] > before[1]);
    write(&notrack(&["vr.blue"], None));
    assert_eq!(packets_of_the_vrf(&fabric, 3021, 3022, 3023), [true; 3], "the VRF alone does not do");
    write(&notrack(&["vr.blue", "br.blue", "vd.blue"], None));
    let before = new();
    assert_eq!(packets_of_the_vrf(&fabric, 3011, 3012, 3013), [false; 3]);
    assert_eq!(new(), before);
}

/// Debian's kernel for User-Mode Linux has no nftables of family inet, and the machine's own may have no VRFs.
#[test]
fn conntrack_sees_nothing_of_a_vrf() {
    if !crate::lab::under_qemu("notrack::conntrack_sees_nothing_of_a_vrf") {
        in_namespace(packets_of_a_vrf_leave_no_trace_in_conntrack);
    }
}

#[test]
fn the_table_is_written_read_rewritten_and_removed() {
    in_namespace(written_read_rewritten_and_removed);
}

#[test]
fn every_change_that_nft_makes_is_seen() {
    in_namespace(what_nft_changes_is_seen);
}

#[test]
fn conntrack_sees_nothing_of_links_and_vtep() {
    in_namespace(packets_of_links_and_of_the_vtep_leave_no_trace_in_conntrack);
}

#[test]
fn a_kernel_that_cannot_do_it_has_no_table_and_says_what_it_lacks() {
    if crate::lab::under_uml("notrack::a_kernel_that_cannot_do_it_has_no_table_and_says_what_it_lacks") {
        return;
    }
    // No module is loaded but by hand.
    std::fs::write("/proc/sys/kernel/modprobe", "\n").unwrap();
    let refused = || {
        assert_eq!(observe(), ObservedNotrack::Absent);
        let error = try_write(&both()).unwrap_err();
        assert_eq!(observe(), ObservedNotrack::Absent);
        println!("{error}");
        error
    };
    let removed = || block_on(async { Netfilter::connect().unwrap().remove().await });
    assert!(matches!(refused(), NotrackError::NoNfTables { .. }), "not even nfnetlink");
    removed().unwrap();
    sh("modprobe nfnetlink");
    assert!(matches!(refused(), NotrackError::NoNfTables { .. }));
    removed().unwrap();
    sh("modprobe nf_tables");
    // Debian builds the kernel of User-Mode Linux without CONFIG_NF_TABLES_INET, whatever modules there are.
    assert!(matches!(refused(), NotrackError::Refused { errno: nix::errno::Errno::EOPNOTSUPP, .. }));
}

#[test]
fn no_packet_finds_the_table_half_there_and_no_reader_either() {
    in_namespace(|| {
        nft(OTHER);
        let _far = Far::new();
        let near = UdpSocket::bind("10.9.0.1:0").unwrap();
        let states = [both(), notrack(&["v0"], None), notrack(&["v0", "v1", "v2"], Some("192.0.2.1"))];
        write(&states[0]);
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let over = AtomicBool::new(false);
        let (before, mut sent) = (["new", "untracked"].map(|state| counted("output", state)), 0);
        let writes = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                let mut writes = 0;
                while !over.load(Ordering::Relaxed) {
                    try_write(&states[writes % states.len()]).unwrap();
                    writes += 1;
                }
                writes
            });
            let reader = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                let (mut reads, mut unstable) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    match block_on(async { Netfilter::connect().unwrap().observe().await }) {
                        Ok(ObservedNotrack::Rules(seen)) => assert!(states.contains(&seen), "{seen:?}"),
                        Ok(other) => panic!("{other:?}"),
                        Err(NotrackError::Unstable(_)) => unstable += 1,
                        Err(error) => panic!("{error}"),
                    }
                    reads += 1;
                }
                (reads, unstable)
            });
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end {
                near.send_to(b"x", "10.9.0.2:2001").unwrap();
                sent += 1;
            }
            over.store(true, Ordering::Relaxed);
            println!("reads, unstable: {:?}", reader.join().unwrap());
            writer.join().unwrap()
        });
        let after = ["new", "untracked"].map(|state| counted("output", state));
        println!("{writes} writes, {sent} packets, [new, untracked] {before:?} -> {after:?}");
        assert_eq!(after[0], before[0], "no packet was tracked");
        assert!(after[1] - before[1] >= sent);
    });
}

#[test]
fn a_table_of_another_process_and_a_missing_capability_are_told() {
    const MARKER: &str = "NOTRACK_WITHOUT_CAPABILITY";
    const NAME: &str = "a_table_of_another_process_and_a_missing_capability_are_told";
    if std::env::var_os(MARKER).is_some() {
        let netfilter = block_on(async { Netfilter::connect().unwrap() });
        let read = block_on(netfilter.observe()).unwrap_err();
        let wrote = block_on(netfilter.write(&both())).unwrap_err();
        println!("{read}\n{wrote}");
        assert!(
            matches!(read, NotrackError::NotPermitted { .. }) && matches!(wrote, NotrackError::NotPermitted { .. })
        );
        return;
    }
    in_namespace(|| {
        let mut owner = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = owner.stdin.take().unwrap();
        stdin.write_all(b"add table inet network-operator { flags owner; }\n").unwrap();
        stdin.flush().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(observe(), ObservedNotrack::Altered);
        let error = try_write(&both()).unwrap_err();
        println!("{error}");
        assert!(matches!(error, NotrackError::Owned { .. }), "{error:?}");
        drop(stdin);
        owner.wait().unwrap();
        write(&both());
        let mut without = Command::new("setpriv");
        without.args(["--bounding-set", "-net_admin"]).arg(std::env::current_exe().unwrap());
        without.args(["--exact", NAME, "--nocapture"]).env(MARKER, "1");
        assert!(without.status().unwrap().success());
    });
}

#[test]
fn changes_of_our_table_are_told_and_those_of_others_are_not() {
    in_namespace(|| {
        nft(OTHER);
        block_on(async {
            let (triggers, mut heard) = mpsc::unbounded_channel();
            let cancel = CancellationToken::new();
            let watch = tokio::spawn(nftables::watch(triggers, cancel.clone()));
            tokio::time::sleep(Duration::from_millis(100)).await;
            let netfilter = Netfilter::connect().unwrap();
            netfilter.write(&both()).await.unwrap();
            let ours = [
                "add rule inet network-operator output accept",
                "flush chain inet network-operator output",
                "delete element inet network-operator links { v0 }",
                "add element inet network-operator links { v0 }",
                "add set inet network-operator more { type ifname; }",
                "add counter inet network-operator seen",
                "delete table inet network-operator",
            ];
            let soon = Duration::from_secs(1);
            assert_eq!(tokio::time::timeout(soon, heard.recv()).await.unwrap(), Some(Trigger::Notrack));
            let quiet = async |heard: &mut mpsc::UnboundedReceiver<Trigger>, most: Duration| {
                tokio::time::sleep(most).await;
                std::iter::from_fn(|| heard.try_recv().ok()).count()
            };
            quiet(&mut heard, Duration::from_millis(200)).await;
            for change in ours {
                let start = Instant::now();
                nft(&format!("{change}\n"));
                let told = tokio::time::timeout(soon, heard.recv()).await;
                assert_eq!(told.expect(change), Some(Trigger::Notrack), "{change}");
                println!("{change}: {:?} with nft", start.elapsed());
                quiet(&mut heard, Duration::from_millis(100)).await;
            }
            let others = "add table ip network-operator\nadd chain ip network-operator output\n\
                          add rule ip network-operator output accept\nadd rule inet other output accept\n\
                          add element inet other links { v0 }\ndelete table ip network-operator\n\
                          add table inet network-operator2\nadd table inet network\n";
            nft(others);
            nft("delete table inet other\n");
            assert_eq!(quiet(&mut heard, soon).await, 0, "others");
            // More than the socket holds, while nobody listens: told as a change, for who knows.
            let rules: String =
                (0..40_000).map(|port| format!("add rule inet network c tcp dport {port} accept\n")).collect();
            nft(&format!("add chain inet network c\n{rules}"));
            assert_eq!(quiet(&mut heard, soon).await, 1, "after ENOBUFS");
            netfilter.write(&both()).await.unwrap();
            assert_eq!(tokio::time::timeout(soon, heard.recv()).await.unwrap(), Some(Trigger::Notrack));
            cancel.cancel();
            watch.await.unwrap();
        });
    });
}

#[test]
fn reading_takes_no_longer_beside_fifty_thousand_rules() {
    in_namespace(|| {
        let took = || {
            let start = Instant::now();
            for _ in 0..100 {
                assert_eq!(observe(), ObservedNotrack::Rules(both()));
            }
            start.elapsed() / 100
        };
        write(&both());
        let alone = took();
        let chains: String = (0..5000).map(|number| format!("add chain ip kube-proxy c{number}\n")).collect();
        let rules: String = (0..50_000)
            .map(|number| format!("add rule ip kube-proxy c{} tcp dport {} accept\n", number / 10, number))
            .collect();
        nft(&format!("add table ip kube-proxy\n{chains}{rules}"));
        let beside = took();
        let start = Instant::now();
        write(&both());
        println!("observe: {alone:?} alone, {beside:?} beside 50000 rules; write and observe {:?}", start.elapsed());
        assert!(beside < alone * 10 + Duration::from_millis(5));
    });
}
