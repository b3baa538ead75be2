//! Three network namespaces a - r - b, where r forwards: with the eBPF router or without it, with conntrack or without it.

use std::fs::{self, File};
use std::process::Command;

use network_operator::bpf::RouterOp;
use network_operator::bpf::counters::Verdict;
use network_operator::bpf::host::HostRouter;
use network_operator::bpf::pins::Pins;
use network_operator::bpf::program::Router;
use network_operator::link::netlink::Netlink;
use nix::sched::{CloneFlags, setns};

use crate::in_a_thread;
use crate::world::{BpfFs, sh};

/// `A`, `R` and `B` stand for the namespaces.
const LINKS: &str = "
for name in $A $R $B; do ip netns add $name; ip -n $name link set lo up; done
ip netns exec $R sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add name r netns $A type veth peer name a netns $R
ip link add name r netns $B type veth peer name b netns $R
at() { ip -n $1 addr add 10.0.$3/24 dev $2; ip -n $1 addr add fd00:$4/64 dev $2 nodad; ip -n $1 link set dev $2 up; }
at $A r 1.2 1::2; at $R a 1.1 1::1; at $R b 2.1 2::1; at $B r 2.2 2::2
ip -n $A route add default via 10.0.1.1; ip -n $A route add default via fd00:1::1
ip -n $B route add default via 10.0.2.1; ip -n $B route add default via fd00:2::1
";
/// Links of r.
const PORTS: [&str; 2] = ["a", "b"];
/// Rules of r that a packet is held against and that match none.
pub(crate) const RULES: usize = 200;

/// What r forwards with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Variant {
    /// The eBPF router, beside conntrack and rules: it is to go past them.
    Attached,
    /// The kernel alone.
    Plain,
    /// The kernel with conntrack and rules.
    Tracked,
}

/// How many packets passed where in r.
#[derive(Debug)]
pub(crate) struct Seen {
    routed: u64,
    passed: u64,
    forwarded: u64,
    /// Of the table; 0 where there is none.
    tracked: u64,
    filtered: u64,
    /// What conntrack knows.
    flows: u64,
}

/// The namespaces, and a bpffs for the router.
pub(crate) struct Lab {
    names: [String; 3],
    fs: BpfFs,
}

pub(crate) const A: usize = 0;
pub(crate) const R: usize = 1;
pub(crate) const B: usize = 2;

impl Lab {
    pub(crate) fn new() -> Self {
        let name = |which| format!("bench-{}-{which}", std::process::id());
        // There is something to drop before there is something to remove.
        let lab = Self { names: ["a", "r", "b"].map(name), fs: BpfFs::mount() };
        let [a, r, b] = &lab.names;
        sh(&format!("A={a} R={r} B={b}\n{LINKS}"));
        lab
    }

    /// Runs something in one of the namespaces. A socket that it opens stays there.
    pub(crate) fn inside<T: Send>(&self, which: usize, run: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.names[which])).unwrap();
        in_a_thread(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        })
    }

    fn pins(&self) -> Pins {
        Pins::new(self.fs.pins())
    }

    /// Makes r what the variant says, whatever it was.
    pub(crate) fn set_up(&self, variant: Variant) {
        self.inside(R, || {
            sh("nft flush ruleset; for link in a b; do tc qdisc del dev $link clsact 2>&- || :; done");
            if variant != Variant::Plain {
                sh(&format!("nft -f - <<'END'\n{}END", table()));
            }
            if variant == Variant::Attached {
                self.attach();
            }
        });
    }

    fn attach(&self) {
        let mut ops = vec![RouterOp::Load];
        for name in PORTS {
            let link = || name.parse().unwrap();
            let (own_qdisc, in_vrf) = (true, false);
            ops.push(RouterOp::AddQdisc { link: link() });
            ops.push(RouterOp::SetPort { link: link(), looks_from: link(), in_vrf, own_qdisc });
            ops.push(RouterOp::Attach { link: link() });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let router = HostRouter::new(&Netlink::connect().unwrap(), self.pins()).unwrap();
            let (done, errors) = router.apply(&ops).await;
            assert_eq!((done.len(), errors.len()), (ops.len(), 0), "{errors:?}");
        });
    }

    /// What r has counted until now.
    pub(crate) fn seen(&self, variant: Variant) -> Seen {
        let counters = Router::find(&self.pins()).unwrap().map_or(Vec::new(), |router| router.counters().unwrap());
        let sum = |pass: bool| {
            counters.iter().filter(|counter| (counter.verdict == Verdict::Pass) == pass).map(|c| c.packets).sum()
        };
        let counter = |name: &str| if variant == Variant::Plain { 0 } else { nft_counter(name) };
        self.inside(R, || Seen {
            routed: sum(false),
            passed: sum(true),
            forwarded: forwarded(),
            tracked: counter("tracked"),
            filtered: counter("filtered"),
            flows: fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap().trim().parse().unwrap(),
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// What a node of Kubernetes does to packets that it forwards, in short.
fn table() -> String {
    let rules: String = (0..RULES).map(|rule| format!("    th dport {} drop\n", 20_000 + rule)).collect();
    format!(
        "table inet bench {{
  counter tracked {{ }}
  counter filtered {{ }}
  chain prerouting {{
    type filter hook prerouting priority filter
    ct state new,established counter name tracked
  }}
  chain forward {{
    type filter hook forward priority filter
{rules}    counter name filtered
  }}
}}
"
    )
}

fn nft_counter(name: &str) -> u64 {
    let text = sh(&format!("nft list counter inet bench {name}"));
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).unwrap().parse().unwrap()
}

/// Packets of both families that the kernel itself has forwarded, in the namespace of this thread.
fn forwarded() -> u64 {
    let four = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let rows: Vec<Vec<&str>> =
        four.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split(' ').collect()).collect();
    let column = rows[0].iter().position(|name| *name == "ForwDatagrams").unwrap();
    let six = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let six = six.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams")).unwrap();
    rows[1][column].parse::<u64>().unwrap() + six.trim().parse::<u64>().unwrap()
}

impl Seen {
    /// Fails where the packets, at least so many, did not go the way that the variant says.
    pub(crate) fn check(variant: Variant, before: &Self, after: &Self, least: u64) {
        let grown = |of: fn(&Self) -> u64| of(after) - of(before);
        let ours = grown(|seen| seen.routed) >= least;
        let kernel = grown(|seen| seen.forwarded) >= least;
        let tracked = grown(|seen| seen.tracked) >= least && grown(|seen| seen.filtered) >= least;
        let untouched = grown(|seen| seen.tracked) + grown(|seen| seen.filtered) == 0;
        let good = match variant {
            // What is passed on are neighbours that look for each other.
            Variant::Attached => ours && grown(|s| s.forwarded) == 0 && grown(|s| s.passed) < 100 && untouched,
            Variant::Plain => kernel && grown(|s| s.routed + s.passed) == 0 && after.flows <= before.flows,
            Variant::Tracked => kernel && grown(|seen| seen.routed + seen.passed) == 0 && tracked,
        };
        assert!(least > 0 && good, "{variant:?}, {least} packets or more: {before:?} became {after:?}");
    }
}
