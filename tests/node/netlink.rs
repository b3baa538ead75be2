//! The link plan on a real kernel with VRFs: every attribute of the contract as `ip -d -j link` shows it, every wrong state repaired.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::world::sh;
use crate::lab::Expected;
use network_operator::link::netlink::Netlink;
use network_operator::link::{DesiredLinks, LinkError, LinkOp, LinkPlan, VrfLinks, plan};
use network_operator::model::RouteTables;
use network_operator::trigger::Trigger;
use network_operator::trigger::links::{self, SiteLinks};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const UNDERLAY: &str = "ip link add dum.underlay mtu 9100 type dummy; ip addr add 192.0.2.129/32 dev dum.underlay; ip link set dum.underlay up";

struct Rig {
    runtime: tokio::runtime::Runtime,
    netlink: Netlink,
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let netlink = runtime.block_on(async { Netlink::connect().unwrap() });
        Self { runtime, netlink }
    }

    fn plan(&self, vrfs: &[(&str, i64, i64)]) -> LinkPlan {
        let seen = self.runtime.block_on(self.netlink.observe()).unwrap();
        let links = |vni: i64, mtu: i64| VrfLinks { vni: vni.try_into().unwrap(), mtu: mtu.try_into().unwrap() };
        let want = DesiredLinks {
            vrfs: vrfs.iter().map(|(name, vni, mtu)| (name.parse().unwrap(), links(*vni, *mtu))).collect(),
            known: ["a", "b"].map(|name| name.parse().unwrap()).into(),
            frozen: BTreeSet::new(),
            tables: RouteTables::new(50.try_into().unwrap(), 252.try_into().unwrap()).unwrap(),
            underlay: seen.underlay(&"dum.underlay".parse().unwrap()).unwrap(),
        };
        plan(&want, &seen)
    }

    fn run(&self, vrfs: &[(&str, i64, i64)]) -> LinkPlan {
        let plan = self.plan(vrfs);
        let ops: Vec<_> = plan.ops().cloned().collect();
        self.runtime.block_on(self.netlink.apply(&ops)).unwrap_or_else(|error| panic!("{error}\n{plan:?}"));
        let again = self.plan(vrfs);
        assert!(again.is_empty() && again.problems.is_empty(), "planned again: {again:?}");
        plan
    }
}

#[test]
fn every_attribute_of_the_contract_is_there_and_every_wrong_one_is_repaired() {
    if crate::lab::under_uml("netlink::every_attribute_of_the_contract_is_there_and_every_wrong_one_is_repaired") {
        return;
    }
    sh(UNDERLAY);
    sh(
        "ip link add vr-mine type vrf table 50; ip link set vr-mine up; ip link add br.foreign type dummy; ip link add vr.other type vrf table 51",
    );
    let foreign = || ["vr-mine", "br.foreign", "vr.other"].map(|name| sh(&format!("ip -d -j link show dev {name}")));
    let untouched = foreign();
    let rig = Rig::new();
    let both = [("a", 100, 9000), ("b", 101, 1500)];
    assert_eq!(rig.plan(&both).create.len(), 2 * 9);
    rig.run(&both);
    attributes();
    for wrong in [
        "ip link del vx.a",
        "ip link del vd.a",
        "ip link del br.a",
        "ip link del vr.a",
        "ip link set vx.a down",
        "ip link set dv.a down",
        "ip link set vx.a nomaster",
        "ip link set br.a nomaster",
        "ip link set vd.a nomaster",
        "ip link set dv.a master vr.a",
        "ip link set br.a mtu 1400; ip link set vx.a mtu 1400",
        "ip link set vd.a mtu 1400",
        "ip link set dv.a mtu 1400",
        "ip link set br.a address 02:00:00:00:00:99",
        "ip link set vx.a address 02:00:00:00:00:99",
        "ip link set vx.a type bridge_slave learning on hairpin off neigh_suppress on",
        "ip link set br.a down; ip link set br.a addrgenmode eui64; ip link set br.a up",
        "ip link set dv.a down; ip link set dv.a addrgenmode none; ip link set dv.a up",
        "ip link set vr.a alias ''; ip link set vx.a alias ''",
        "ip link del vx.a; ip link add vx.a type vxlan id 999 local 192.0.2.129 dev dum.underlay dstport 4789",
        "ip link del vx.a; ip link add vx.a type vxlan id 100 dstport 4789",
        "ip link del vx.a; ip link add vx.a type vxlan id 100 local 192.0.2.129 dev dum.underlay dstport 4789",
        "ip link del vr.a; ip link add vr.a type vrf table 1000",
        "ip link del vr.a; ip link add vr.a type vrf table 50",
        "ip link del vd.a; ip link add vd.a type veth peer name elsewhere; ip link set elsewhere alias x; ip link add dv.a type veth peer name nowhere",
        "ip link set vx.a down; ip link set vx.a name spare; ip link set spare alias x; ip link del spare",
    ] {
        sh(wrong);
        let plan = rig.run(&both);
        assert!(!plan.is_empty(), "nothing seen of: {wrong}");
        attributes();
    }
    // Two VRFs swap their VNIs, then one goes and the other takes over its VNI.
    rig.run(&[("a", 101, 9000), ("b", 100, 1500)]);
    rig.run(&[("b", 101, 1500)]);
    rig.run(&[]);
    assert_eq!(sh("ip -o link | grep -E ' (vr|br|vx|vd|dv)\\.[ab][:@]' || true"), "");
    assert_eq!(foreign(), untouched);
}

fn attributes() {
    // The foreign VRFs have the tables 50 and 51.
    attributes_of(&[("a", 100, 9000), ("b", 101, 1500)], 9000, 52..=252);
}

fn attributes_of(vrfs: &[(&str, u32, u32)], overlay_mtu: u32, tables: RangeInclusive<u64>) {
    for (vrf, vni, mtu) in vrfs {
        let (local, mac) = ("192.0.2.129", "02:54:c0:00:02:81");
        let expected = Expected { vrf, vni: *vni, mtu: *mtu, overlay_mtu, local, mac, tables: tables.clone() };
        crate::lab::assert_attributes(&sh, &expected);
    }
}

#[test]
fn a_vxlan_is_as_large_as_its_underlay_leaves() {
    if crate::lab::under_uml("netlink::a_vxlan_is_as_large_as_its_underlay_leaves") {
        return;
    }
    sh(UNDERLAY);
    sh("ip link set dum.underlay mtu 1600");
    Rig::new().run(&[("a", 100, 9000)]);
    attributes_of(&[("a", 100, 9000)], 1550, 50..=252);
}

#[test]
fn an_underlay_without_or_with_two_addresses_is_named_with_what_it_has() {
    if crate::lab::under_uml("netlink::an_underlay_without_or_with_two_addresses_is_named_with_what_it_has") {
        return;
    }
    let rig = Rig::new();
    let name = "dum.underlay".parse().unwrap();
    let error = || rig.runtime.block_on(rig.netlink.observe()).unwrap().underlay(&name).unwrap_err().to_string();
    assert!(error().contains("is not there"), "{}", error());
    sh("ip link add dum.underlay type dummy");
    assert!(error().contains("no IPv4 address") && error().contains("exactly one"), "{}", error());
    sh("ip addr add 192.0.2.129/32 dev dum.underlay; ip addr add 192.0.2.130/32 dev dum.underlay");
    assert!(error().contains("192.0.2.129 and 192.0.2.130"), "{}", error());
}

#[test]
fn two_hundred_vrfs_are_planned_applied_and_removed() {
    if crate::lab::under_uml("netlink::two_hundred_vrfs_are_planned_applied_and_removed") {
        return;
    }
    sh(UNDERLAY);
    let names: Vec<String> = (0..200).map(|number| format!("v{number}")).collect();
    let vrfs: Vec<(&str, i64, i64)> = names.iter().zip(1000..).map(|(name, vni)| (name.as_str(), vni, 9000)).collect();
    let rig = Rig::new();
    rig.run(&vrfs);
    assert_eq!(sh("ip -o link | grep -cE ' (vr|br|vx|vd|dv)\\.v'").trim(), "1000");
    rig.run(&[]);
    assert_eq!(sh("ip -o link | grep -cE ' (vr|br|vx|vd|dv)\\.v' || true").trim(), "0");
}

/// The most memory that this process had, in kB, since that was set back.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn a_thousand_links_are_read_part_by_part_and_by_many_at_once() {
    if crate::lab::under_uml("netlink::a_thousand_links_are_read_part_by_part_and_by_many_at_once") {
        return;
    }
    sh(UNDERLAY);
    let rig = Rig::new();
    // What is resident of the code is there already.
    rig.runtime.block_on(rig.netlink.observe()).unwrap();
    sh("for number in $(seq 1000); do echo link add d$number type dummy; done | ip -batch -");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = most_memory();
    let seen = rig.runtime.block_on(rig.netlink.observe()).unwrap();
    let took = most_memory() - before;
    assert!(seen.iter().count() > 1000);
    // All of them at once, as the kernel tells of them, are more than 8 MB.
    assert!(took < 3000, "{took} kB to read 1,000 links");
    // The kernel refuses a dump of a socket that has not read another to its end.
    let netlink = rig.netlink.clone();
    rig.runtime.block_on(async {
        let run = tokio::spawn(async move {
            for _ in 0..5 {
                assert!(netlink.observe().await.unwrap().iter().count() > 1000);
            }
        });
        for _ in 0..5 {
            let (checked, told) = tokio::join!(rig.netlink.operational(), rig.netlink.vrfs());
            assert!(checked.unwrap().len() > 1000 && told.unwrap().is_empty());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        run.await.unwrap();
        // One that nobody waits for any more is read to its end first.
        let mut left = 0;
        for step in 0..20 {
            let patience = Duration::from_millis(2) * step;
            left += usize::from(tokio::time::timeout(patience, rig.netlink.observe()).await.is_err());
            assert!(rig.netlink.operational().await.unwrap().len() > 1000);
        }
        assert!(left > 2, "only {left} were left");
    });
}

#[test]
fn links_that_change_while_they_are_listed_are_no_list() {
    if crate::lab::under_uml("netlink::links_that_change_while_they_are_listed_are_no_list") {
        return;
    }
    sh("for number in $(seq 500); do echo link add d$number type dummy; done | ip -batch -");
    let rig = Rig::new();
    let changes = "while [ ! -e /run/still ]; do echo link add e0 type dummy; echo link del e0; done | ip -batch -";
    let mut changing = std::process::Command::new("sh").args(["-c", changes]).spawn().unwrap();
    let begin = Instant::now();
    loop {
        match rig.runtime.block_on(rig.netlink.observe()) {
            Err(LinkError::Unstable(_)) => break,
            seen => assert!(begin.elapsed() < Duration::from_secs(120), "never interrupted: {seen:?}"),
        }
    }
    std::fs::write("/run/still", "").unwrap();
    assert!(changing.wait().unwrap().success());
    let seen = rig.runtime.block_on(rig.netlink.observe()).unwrap();
    let seen: BTreeSet<_> = seen.iter().map(|link| link.name.clone()).collect();
    let there = std::fs::read_dir("/sys/class/net").unwrap();
    assert_eq!(seen, there.map(|link| link.unwrap().file_name().into_string().unwrap()).collect());
    assert!(seen.len() > 500);
}

#[test]
fn a_link_that_has_gone_since_the_plan_is_named() {
    if crate::lab::under_uml("netlink::a_link_that_has_gone_since_the_plan_is_named") {
        return;
    }
    sh(UNDERLAY);
    let rig = Rig::new();
    let apply = |ops: &[LinkOp]| rig.runtime.block_on(rig.netlink.apply(ops));
    apply(&rig.plan(&[("a", 100, 9000)]).ops().cloned().collect::<Vec<_>>()).unwrap();
    sh("ip link set vx.a down mtu 8000");
    let plan = rig.plan(&[("a", 100, 9000)]);
    sh("ip link del vx.a");
    let mut ops: Vec<_> = plan.ops().filter(|op| op.to_string().contains("vx.a")).cloned().collect();
    assert_eq!(ops.len(), 2, "a change, and up: {ops:?}");
    let name = || "vx.a".parse().unwrap();
    ops.extend([LinkOp::SetDown { name: name() }, LinkOp::Delete { name: name() }]);
    for op in ops {
        let error = apply(&[op]).unwrap_err().to_string();
        assert!(error.contains("link vx.a is not there any more"), "{error}");
    }
}

#[test]
fn without_cap_net_admin_the_error_says_so() {
    if crate::lab::under_uml("netlink::without_cap_net_admin_the_error_says_so") {
        return;
    }
    sh(UNDERLAY);
    let rig = Rig::new();
    let plan = rig.plan(&[("a", 100, 9000)]);
    nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into()).unwrap();
    let error = rig.runtime.block_on(rig.netlink.apply(&plan.create)).unwrap_err().to_string();
    assert!(error.contains("CAP_NET_ADMIN") && error.contains("create vrf vr.a"), "{error}");
}

/// Whether the kernel's words about what a command did lead to a trigger; all that came is taken.
async fn triggers(command: &str, incoming: &mut mpsc::UnboundedReceiver<Trigger>) -> bool {
    sh(command);
    let first = tokio::time::timeout(Duration::from_millis(500), incoming.recv()).await;
    // The kernel gathers changes of carriers for up to a second (net/core/link_watch.c).
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(1200), incoming.recv()).await {}
    first.is_ok()
}

#[test]
fn what_happens_to_our_links_and_the_underlay_is_told_and_to_others_is_not() {
    if crate::lab::under_uml("netlink::what_happens_to_our_links_and_the_underlay_is_told_and_to_others_is_not") {
        return;
    }
    sh(UNDERLAY);
    sh("ip link add site type vxlan id 7 local 192.0.2.129 dev dum.underlay dstport 4789");
    let rig = Rig::new();
    rig.run(&[("a", 100, 9000)]);
    rig.runtime.block_on(async {
        let (sender, mut incoming) = mpsc::unbounded_channel();
        let (site, named) = watch::channel(SiteLinks::default());
        let cancel = CancellationToken::new();
        let watcher = tokio::spawn(links::watch(named, sender, cancel.clone()));
        assert!(!triggers("true", &mut incoming).await, "nothing happened");
        assert!(!triggers("ip link set dum.underlay mtu 9050", &mut incoming).await, "nobody has named the underlay");
        let routed = ["mgmt_def".parse().unwrap()].into();
        site.send(SiteLinks { underlay: Some("dum.underlay".parse().unwrap()), routed }).unwrap();
        for (command, told) in [
            ("ip link set dum.underlay mtu 9100", true),
            ("ip addr add 192.0.2.130/32 dev dum.underlay", true),
            ("ip addr del 192.0.2.130/32 dev dum.underlay", true),
            ("ip link set vx.a down", true),
            ("ip link set vx.a up", true),
            ("ip link set dv.a mtu 1400", true),
            ("ip link set br.a nomaster", true),
            ("ip link set vx.a address 02:00:00:00:00:99", true),
            ("ip link set vx.a type bridge_slave learning on", true),
            ("bridge link set dev vx.a hairpin off", true),
            ("ip link set br.a addrgenmode eui64", true),
            ("ip link set vr.a alias other", true),
            ("ip link set vd.a down; ip link set vd.a name elsewhere", true),
            ("ip link del elsewhere", true),
            ("ip link del vx.a", true),
            ("ip link add vx.b type dummy", true),
            ("ip link del site", true),
            ("tc qdisc add dev br.a clsact", true),
            ("tc filter add dev br.a ingress matchall action ok", true),
            ("tc filter del dev br.a ingress", true),
            ("tc qdisc del dev br.a clsact", true),
            ("ip link add mgmt_def type dummy", true),
            ("tc qdisc add dev mgmt_def clsact", true),
            ("tc qdisc add dev dum.underlay clsact", false),
            ("ip link add site type dummy; ip addr add 198.51.100.9/32 dev site; ip link set site up mtu 1400", false),
            ("ip link add cali1 type veth peer name cali2; ip link set cali1 up; ip link del cali2; ip link del site", false),
            ("ip link add calico type vxlan id 9 local 192.0.2.129 dstport 4790; ip link set calico up", false),
            ("ip route add blackhole 203.0.113.0/24; ip neigh add 203.0.113.1 dev lo lladdr 02:00:00:00:00:01", false),
            ("ip -6 addr add 2001:db8::1/128 dev dum.underlay", false),
            ("ip link set dum.underlay down; ip link set dum.underlay name away", true),
            ("ip link set away mtu 1500", false),
        ] {
            assert_eq!(triggers(command, &mut incoming).await, told, "{command}");
        }
        // More than a socket's buffer holds, while nobody reads it: what was missed is told.
        let many = "for n in $(seq 3000); do echo \"link set lo mtu $((60000 + n % 2))\"; done | ip -batch -";
        let all = sh(&format!("{many}; ip link del br.a"));
        assert!(triggers("true", &mut incoming).await, "{all}");
        assert!(triggers("ip link add br.c type bridge", &mut incoming).await, "after an overrun");
        cancel.cancel();
        watcher.await.unwrap();
    });
}
