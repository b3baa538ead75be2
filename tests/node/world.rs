//! A network namespace with routes of every kind, and the eBPF router loaded: what the tests of its packets run on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use aya::programs::{ProgramInfo, SchedClassifier, TestRun, TestRunOptions};
use network_operator::bpf::Port;
use network_operator::bpf::counters::{Counter, Verdict};
use network_operator::bpf::pins::Pins;
use network_operator::bpf::program::Router;

/// MAC addresses of the links; the neighbour beyond `out` is known.
pub(crate) const IN: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub(crate) const OUT: [u8; 6] = [2, 0, 0, 0, 2, 1];
pub(crate) const KNOWN: [u8; 6] = [2, 0, 0, 0, 2, 2];

/// `VRF` stands for what puts a link into the VRF, or for nothing.
const LINKS: &str = "
link() { ip link add name $1 address $2 mtu $3 type veth peer name $1-p; ip link set dev $1 up; ip link set dev $1-p up; }
vrf() { [ -z \"$VRF\" ] || ip link set dev $1 master vr.t; }
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
[ -z \"$VRF\" ] || { ip link add vr.t type vrf table 50; ip link set vr.t up; }
link in 02:00:00:00:01:01 1500; link out 02:00:00:00:02:01 1500; link small 02:00:00:00:03:01 1280; link off 02:00:00:00:04:01 1500
link port 02:00:00:00:05:01 1500
ip link add name br address 02:00:00:00:05:01 type bridge; ip link set dev br up; ip link set port master br
for name in in out small off br; do vrf $name; done
ip addr add 10.0.1.1/24 dev in; ip addr add 10.0.2.1/24 dev out; ip addr add 10.0.3.1/24 dev small; ip addr add 10.0.5.1/24 dev br
ip addr add 10.0.4.1/24 dev off; ip addr add fd00:4::1/64 dev off nodad
ip addr add fd00:1::1/64 dev in nodad; ip addr add fd00:2::1/64 dev out nodad; ip addr add fd00:3::1/64 dev small nodad
sysctl -qw net.ipv4.conf.off.forwarding=0 net.ipv6.conf.off.forwarding=0
for next in 10.0.2.2 fd00:2::2; do ip neigh add $next lladdr 02:00:00:00:02:02 dev out nud permanent; done
ip neigh add 10.0.3.2 lladdr 02:00:00:00:03:02 dev small nud permanent
ip neigh add fd00:3::2 lladdr 02:00:00:00:03:02 dev small nud permanent
route() { ip route add ${VRF:+table 50} $*; }
route 10.9.0.0/16 via 10.0.2.2; route fd09::/16 via fd00:2::2
route 10.8.0.0/16 via 10.0.2.3; route fd08::/16 via fd00:2::3
route 10.7.0.0/16 via inet6 fd00:2::2 dev out
route blackhole 10.6.1.0/24; route unreachable 10.6.2.0/24; route prohibit 10.6.3.0/24
route blackhole fd06:1::/32; route unreachable fd06:2::/32; route prohibit fd06:3::/32
route 10.4.0.0/16 via 10.0.3.2; route fd04::/16 via fd00:3::2
route 10.5.0.0/16 via 10.0.2.2 mtu lock 1300; route fd05::/16 via fd00:2::2 mtu lock 1300
";

/// Runs a shell command that must succeed, and gives its standard output.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "`{command}`: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The interface index of a link.
pub(crate) fn index(link: &str) -> u32 {
    nix::net::if_::if_nametoindex(link).unwrap()
}

/// A bpffs of its own.
pub(crate) struct BpfFs {
    folder: tempfile::TempDir,
}

impl BpfFs {
    pub(crate) fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        sh(&format!("mount -t bpf bpf {}", folder.path().display()));
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the router's pins go.
    pub(crate) fn pins(&self) -> PathBuf {
        self.path().join("network-operator")
    }

    /// The program that is pinned.
    pub(crate) fn program(&self) -> SchedClassifier {
        let entries = std::fs::read_dir(self.pins()).unwrap();
        let pin = entries.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().contains("/router-"));
        let info = ProgramInfo::from_pin(pin.unwrap()).unwrap();
        SchedClassifier::from_program_info(info, "router".into()).unwrap()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// What the program made of a packet.
#[derive(Debug, PartialEq)]
pub(crate) struct Ran {
    pub(crate) action: i32,
    pub(crate) data: Vec<u8>,
    pub(crate) counted: &'static str,
    pub(crate) fib: Option<&'static str>,
    pub(crate) verdict: Verdict,
}

/// Where a packet comes in, and whether it stands for several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrives {
    pub(crate) link: &'static str,
    pub(crate) segments: Option<(u32, u32)>,
}

pub(crate) const PLAIN: Arrives = Arrives { link: "in", segments: None };

pub(crate) struct World {
    fs: BpfFs,
    pub(crate) router: Router,
    pub(crate) program: SchedClassifier,
}

impl World {
    /// In a network namespace of the calling thread's own.
    pub(crate) fn new(vrf: bool) -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        sh(&format!("VRF={}\n{LINKS}", if vrf { "yes" } else { "" }));
        let fs = BpfFs::mount();
        let mut router = Router::load(&Pins::new(fs.pins())).unwrap();
        for (link, looks_from) in [("in", "in"), ("off", "off"), ("port", "br")] {
            let port = Port { looks_from: index(looks_from), in_vrf: vrf, own_qdisc: false };
            router.set_port(index(link), port).unwrap();
        }
        let program = fs.program();
        Self { fs, router, program }
    }

    /// Where its pins are.
    pub(crate) fn pins(&self) -> PathBuf {
        self.fs.pins()
    }

    /// How many packets were of a kind.
    pub(crate) fn counted(&self, why: &str) -> u64 {
        self.counters()[why].packets
    }

    fn counters(&self) -> BTreeMap<&'static str, Counter> {
        self.router.counters().unwrap().into_iter().map(|counter| (counter.reason, counter)).collect()
    }

    /// Runs the program once on a packet.
    pub(crate) fn run(&self, packet: &[u8], arrives: Arrives) -> Ran {
        let before = self.counters();
        let context = context(arrives);
        let mut data = vec![0; packet.len() + 64];
        let mut options = TestRunOptions::new();
        (options.data_in, options.ctx_in) = (Some(packet), Some(&context[..]));
        options.data_out = Some(&mut data);
        let result =
            self.program.test_run(options).unwrap_or_else(|error| panic!("{packet:02x?} at {arrives:?}: {error:?}"));
        data.truncate(result.data_size_out as usize);
        let after = self.counters();
        let counted: Vec<&Counter> = after.values().filter(|c| c.packets != before[c.reason].packets).collect();
        let [one] = counted.as_slice() else { panic!("one packet is counted once: {counted:?}") };
        let old = before[one.reason];
        assert_eq!((one.packets - old.packets, one.bytes - old.bytes), (1, packet.len() as u64), "{}", one.reason);
        let action = result.return_value.cast_signed();
        Ran { action, data, counted: one.reason, fib: one.fib, verdict: one.verdict }
    }
}

/// `struct __sk_buff`, as far as the kernel takes it from us.
pub(crate) fn context(arrives: Arrives) -> [u8; 192] {
    let mut context = [0; 192];
    let mut set = |offset: usize, value: u32| context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    set(40, index(arrives.link));
    if let Some((size, count)) = arrives.segments {
        set(164, count);
        set(176, size);
    }
    context
}
