//! The laws of the link plan, on a model of the kernel: what is applied is not planned again, and nobody else is touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails must stop"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use network_operator::link::*;
use network_operator::model::{RouteTables, VrfName};
use proptest::prelude::*;

const UNDERLAY_INDEX: u32 = 1;

/// A kernel that does what the plan's operations say, and refuses what the real one refuses.
#[derive(Clone, Default)]
struct Kernel {
    links: BTreeMap<String, ObservedLink>,
    next: u32,
}

impl Kernel {
    fn new() -> Self {
        let mut kernel = Self { links: BTreeMap::new(), next: UNDERLAY_INDEX };
        kernel.add("dum.underlay", Kind::Other("dummy".into()));
        let underlay = kernel.get("dum.underlay");
        (underlay.mtu, underlay.ipv4) = (9100, vec![Ipv4Addr::new(192, 0, 2, 129)]);
        kernel
    }

    fn seen(&self) -> ObservedLinks {
        ObservedLinks::new(self.links.values().cloned())
    }

    fn get(&mut self, name: &str) -> &mut ObservedLink {
        self.links.get_mut(name).unwrap_or_else(|| panic!("no link {name}"))
    }

    fn add(&mut self, name: &str, kind: Kind) -> u32 {
        assert!(!self.links.contains_key(name), "EEXIST {name}");
        let index = self.next;
        self.next += 1;
        if let Kind::Vxlan { vni, port, .. } = &kind {
            let same = |link: &ObservedLink| matches!(&link.kind, Kind::Vxlan { vni: v, port: p, .. } if (v, p) == (vni, port));
            assert!(!self.links.values().any(same), "EEXIST: VNI {vni}");
        }
        let link = ObservedLink {
            index,
            name: name.into(),
            alias: None,
            mac: Some(MacAddr([2, 0, 0, 0, 0, index as u8])),
            mtu: 1500,
            up: false,
            master: None,
            addr_gen_mode: Some(AddrGenMode::Eui64),
            kind,
            port: None,
            ipv4: vec![],
        };
        self.links.insert(name.into(), link);
        index
    }

    fn enslave(&mut self, name: &str, master: &str) {
        let (index, kind) = (self.get(master).index, self.get(master).kind.clone());
        assert!(matches!(kind, Kind::Bridge | Kind::Vrf { .. }), "EOPNOTSUPP: {master} is no master");
        let link = self.get(name);
        if link.master != Some(index) {
            link.master = Some(index);
            link.port =
                (kind == Kind::Bridge).then_some(BridgePort { learning: true, hairpin: false, neigh_suppress: false });
        }
    }

    fn delete(&mut self, name: &str) {
        let gone = self.links.remove(name).unwrap_or_else(|| panic!("ENODEV {name}"));
        if let Kind::Veth { peer: Some(peer) } = gone.kind {
            self.links.retain(|_, link| link.index != peer);
        }
        for link in self.links.values_mut().filter(|link| link.master == Some(gone.index)) {
            (link.master, link.port) = (None, None);
        }
    }

    fn veth(&mut self, a: &str, b: &str) {
        let near = self.add(a, Kind::Veth { peer: None });
        let far = self.add(b, Kind::Veth { peer: Some(near) });
        self.get(a).kind = Kind::Veth { peer: Some(far) };
    }

    fn apply(&mut self, op: &LinkOp) {
        match op {
            LinkOp::CreateVrf { name, table } => drop(self.add(name.as_str(), Kind::Vrf { table: table.get() })),
            LinkOp::CreateBridge { name, master, mac, mtu } => {
                self.add(name.as_str(), Kind::Bridge);
                (self.get(name.as_str()).mac, self.get(name.as_str()).mtu) = (Some(*mac), *mtu);
                self.enslave(name.as_str(), master.as_str());
            }
            LinkOp::CreateVxlan { name, master, vni, local, dev, mac, mtu } => {
                let lower = Some(self.get(dev.as_str()).index);
                let kind =
                    Kind::Vxlan { vni: vni.get(), local: Some(*local), lower, port: VXLAN_PORT, learning: false };
                self.add(name.as_str(), kind);
                (self.get(name.as_str()).mac, self.get(name.as_str()).mtu) = (Some(*mac), *mtu);
                self.enslave(name.as_str(), master.as_str());
            }
            LinkOp::CreateVeth { name, peer, master, mac, peer_mac, mtu } => {
                self.veth(name.as_str(), peer.as_str());
                (self.get(name.as_str()).mac, self.get(peer.as_str()).mac) = (Some(*mac), Some(*peer_mac));
                (self.get(name.as_str()).mtu, self.get(peer.as_str()).mtu) = (*mtu, *mtu);
                self.enslave(name.as_str(), master.as_str());
            }
            LinkOp::Change { name, change } => self.change(name.as_str(), change),
            LinkOp::SetUp { name } => self.get(name.as_str()).up = true,
            LinkOp::SetDown { name } => self.get(name.as_str()).up = false,
            LinkOp::Delete { name } => self.delete(name.as_str()),
        }
    }

    fn change(&mut self, name: &str, change: &LinkChange) {
        let LinkChange { mark, master, no_master, mac, mtu, addr_gen_mode, overlay_port } = change;
        if *overlay_port {
            // rtnl_newlink looks for the master before it sets one.
            assert!(self.get(name).port.is_some(), "EINVAL: {name} is no bridge port yet");
            self.get(name).port = Some(BridgePort { learning: false, hairpin: true, neigh_suppress: false });
        }
        if let Some(master) = master {
            self.enslave(name, master.as_str());
        }
        let link = self.get(name);
        if *no_master {
            (link.master, link.port) = (None, None);
        }
        link.mac = mac.or(link.mac);
        link.mtu = mtu.unwrap_or(link.mtu);
        if let Some(mode) = addr_gen_mode {
            assert!(!link.up, "{name}: addresses of the old mode would stay");
            link.addr_gen_mode = Some(*mode);
        }
        if *mark {
            link.alias = Some(MARK.into());
        }
    }
}

fn vrf(name: &str) -> VrfName {
    name.parse().unwrap()
}

fn want(vrfs: &[(&str, i64, i64)], known: &[&str], kernel: &Kernel) -> DesiredLinks {
    let links = vrfs.iter().map(|(name, vni, mtu)| {
        (vrf(name), VrfLinks { vni: (*vni).try_into().unwrap(), mtu: (*mtu).try_into().unwrap() })
    });
    DesiredLinks {
        vrfs: links.collect(),
        known: known.iter().map(|name| vrf(name)).collect(),
        frozen: BTreeSet::new(),
        tables: RouteTables::default(),
        underlay: kernel.seen().underlay(&"dum.underlay".parse().unwrap()).unwrap(),
    }
}

fn run(kernel: &mut Kernel, want: &DesiredLinks) -> LinkPlan {
    let plan = plan(want, &kernel.seen());
    for op in plan.ops() {
        kernel.apply(op);
    }
    plan
}

/// One disturbance of the kernel's state, as an operator at 3 a.m. or a crash would leave it.
#[derive(Debug, Clone)]
enum Disturb {
    Delete(usize),
    Down(usize),
    Mtu(usize, u32),
    Mac(usize),
    Unmark(usize),
    AddrGen(usize),
    NoMaster(usize),
    SwapMaster(usize, usize),
    Port(usize),
    Vni(usize, u32),
    Table(usize, u32),
}

fn disturbance() -> impl Strategy<Value = Disturb> {
    let link = 0usize..40;
    prop_oneof![
        link.clone().prop_map(Disturb::Delete),
        link.clone().prop_map(Disturb::Down),
        (link.clone(), 1280u32..9000).prop_map(|(l, m)| Disturb::Mtu(l, m)),
        link.clone().prop_map(Disturb::Mac),
        link.clone().prop_map(Disturb::Unmark),
        link.clone().prop_map(Disturb::AddrGen),
        link.clone().prop_map(Disturb::NoMaster),
        (link.clone(), link.clone()).prop_map(|(a, b)| Disturb::SwapMaster(a, b)),
        link.clone().prop_map(Disturb::Port),
        (link.clone(), 100u32..110).prop_map(|(l, v)| Disturb::Vni(l, v)),
        (link, 45u32..60).prop_map(|(l, t)| Disturb::Table(l, t)),
    ]
}

fn disturb(kernel: &mut Kernel, disturb: &Disturb) {
    let names: Vec<String> = kernel
        .links
        .keys()
        .filter(|name| OwnedName::recognise(name).is_some_and(|name| name.vrf.as_str() != "foreign"))
        .cloned()
        .collect();
    let pick = |index: usize| names.get(index % names.len().max(1)).cloned();
    let (Disturb::Delete(i)
    | Disturb::Down(i)
    | Disturb::Mtu(i, _)
    | Disturb::Mac(i)
    | Disturb::Unmark(i)
    | Disturb::AddrGen(i)
    | Disturb::NoMaster(i)
    | Disturb::SwapMaster(i, _)
    | Disturb::Port(i)
    | Disturb::Vni(i, _)
    | Disturb::Table(i, _)) = disturb;
    let Some(name) = pick(*i) else { return };
    let vnis: Vec<u32> = kernel
        .links
        .values()
        .filter_map(|l| if let Kind::Vxlan { vni, .. } = l.kind { Some(vni) } else { None })
        .collect();
    match disturb {
        Disturb::Delete(_) => kernel.delete(&name),
        Disturb::SwapMaster(_, other) => {
            let Some(other) =
                pick(*other).filter(|other| matches!(kernel.links[other].kind, Kind::Bridge | Kind::Vrf { .. }))
            else {
                return;
            };
            if other != name && !matches!(kernel.links[&name].kind, Kind::Vrf { .. }) {
                kernel.enslave(&name, &other);
            }
        }
        _ => {}
    }
    let Some(link) = kernel.links.get_mut(&name) else { return };
    match disturb {
        Disturb::Down(_) => link.up = false,
        Disturb::Mtu(_, mtu) => link.mtu = *mtu,
        Disturb::Mac(_) => link.mac = Some(MacAddr([2, 9, 9, 9, 9, 9])),
        Disturb::Unmark(_) => link.alias = None,
        Disturb::AddrGen(_) => link.addr_gen_mode = Some(AddrGenMode::Other),
        Disturb::NoMaster(_) => (link.master, link.port) = (None, None),
        Disturb::Port(_) => {
            link.port = link.port.map(|_| BridgePort { learning: true, hairpin: false, neigh_suppress: true })
        }
        Disturb::Vni(_, new) => {
            if let Kind::Vxlan { vni, .. } = &mut link.kind
                && !vnis.contains(new)
            {
                *vni = *new;
            }
        }
        Disturb::Table(_, new) => {
            if let Kind::Vrf { table } = &mut link.kind {
                *table = *new;
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn plan_after_apply_is_empty_from_any_state(
        before in prop::collection::btree_map("[a-d]", (100i64..106, 1280i64..9000), 0..4),
        after in prop::collection::btree_map("[a-d]", (100i64..106, 1280i64..9000), 0..4),
        disturbances in prop::collection::vec(disturbance(), 0..12),
    ) {
        let mut kernel = Kernel::new();
        kernel.add("vr-mine", Kind::Vrf { table: 52 });
        kernel.add("br.foreign", Kind::Other("dummy".into()));
        let foreign = |kernel: &Kernel| ["vr-mine", "br.foreign", "dum.underlay"].map(|name| kernel.links[name].clone());
        let untouched = foreign(&kernel);
        let unique = |vrfs: &BTreeMap<String, (i64, i64)>| {
            let mut vnis = BTreeSet::new();
            vrfs.iter().filter(|(_, (vni, _))| vnis.insert(*vni)).map(|(n, (v, m))| (n.clone(), *v, *m)).collect::<Vec<_>>()
        };
        for wanted in [unique(&before), unique(&after)] {
            let wanted: Vec<(&str, i64, i64)> = wanted.iter().map(|(n, v, m)| (n.as_str(), *v, *m)).collect();
            let want = want(&wanted, &["a", "b", "c", "d"], &kernel);
            run(&mut kernel, &want);
            let again = plan(&want, &kernel.seen());
            prop_assert!(again.is_empty(), "{:?}", again);
            prop_assert!(again.problems.is_empty(), "{:?}", again.problems);
            prop_assert_eq!(kernel.links.len(), 3 + 5 * want.vrfs.len());
            prop_assert_eq!(foreign(&kernel), untouched.clone());
            for d in &disturbances {
                disturb(&mut kernel, d);
            }
            run(&mut kernel, &want);
            let again = plan(&want, &kernel.seen());
            prop_assert!(again.is_empty(), "{:?}", again);
            prop_assert_eq!(kernel.links.len(), 3 + 5 * want.vrfs.len());
            let tables: BTreeSet<u32> = kernel.links.values().filter_map(|l| if let Kind::Vrf { table } = l.kind { Some(table) } else { None }).collect();
            prop_assert_eq!(tables.len(), 1 + want.vrfs.len(), "tables are shared");
        }
    }
}

#[test]
fn a_foreign_link_in_the_way_leaves_its_vrf_out_and_makes_the_others() {
    let mut kernel = Kernel::new();
    kernel.add("br.a", Kind::Other("dummy".into()));
    let want = want(&[("a", 100, 9000), ("b", 101, 9000)], &["a", "b"], &kernel);
    let plan = run(&mut kernel, &want);
    assert_eq!(plan.problems[0].vrf, vrf("a"));
    assert!(plan.problems[0].message.contains("br.a") && !kernel.links.contains_key("vr.a"));
    assert!(kernel.links["vr.b"].up);
}

#[test]
fn a_vni_that_a_foreign_vxlan_has_is_reported() {
    let mut kernel = Kernel::new();
    kernel.add("vxlan100", Kind::Vxlan { vni: 100, local: None, lower: None, port: VXLAN_PORT, learning: true });
    let want = want(&[("a", 100, 9000)], &["a"], &kernel);
    let plan = run(&mut kernel, &want);
    assert!(plan.is_empty() && plan.problems[0].message.contains("vxlan100"), "{:?}", plan.problems);
}

#[test]
fn a_table_stays_with_its_vrf_and_an_exhausted_range_is_reported() {
    let mut kernel = Kernel::new();
    let table = |kernel: &Kernel, name: &str| match kernel.links[name].kind {
        Kind::Vrf { table } => table,
        _ => 0,
    };
    let both = want(&[("a", 100, 9000), ("b", 101, 9000)], &["a", "b"], &kernel);
    run(&mut kernel, &both);
    let of_b = table(&kernel, "vr.b");
    let one = want(&[("b", 101, 9000)], &["a", "b"], &kernel);
    run(&mut kernel, &one);
    assert_eq!(table(&kernel, "vr.b"), of_b);
    let mut narrow = want(&[("a", 100, 9000), ("b", 101, 9000)], &["a", "b"], &kernel);
    let only = i64::from(of_b).try_into().unwrap();
    narrow.tables = RouteTables::new(only, only).unwrap();
    let plan = run(&mut kernel, &narrow);
    assert!(plan.problems[0].message.contains("no routing table"), "{:?}", plan.problems);
    assert_eq!(table(&kernel, "vr.b"), of_b);
}

#[test]
fn links_of_a_vrf_that_the_operator_file_got_wrong_stay_as_they_are() {
    let mut kernel = Kernel::new();
    let good = want(&[("a", 100, 9000)], &["a"], &kernel);
    run(&mut kernel, &good);
    let mut broken = want(&[], &[], &kernel);
    broken.frozen.insert(vrf("a"));
    assert!(run(&mut kernel, &broken).is_empty());
    let gone = want(&[], &[], &kernel);
    run(&mut kernel, &gone);
    assert_eq!(kernel.links.len(), 1);
}

#[test]
fn links_of_the_go_operator_are_adopted_without_being_made_anew() {
    let mut kernel = Kernel::new();
    let want = want(&[("a", 100, 9000)], &["a"], &kernel);
    run(&mut kernel, &want);
    for link in kernel.links.values_mut() {
        link.alias = None;
    }
    let adopted = run(&mut kernel, &want);
    let only_marks = adopted.ops().all(|op| matches!(op, LinkOp::Change { change, .. } if change.mark));
    assert!(only_marks && adopted.create.len() == 5, "{adopted:?}");
}
