//! The laws of the router's plan, on a model of the kernel: it can be carried out, what is carried out is not planned again, and
//! nobody else is touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails must stop"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use network_operator::bpf::*;
use network_operator::link::{
    DesiredLinks, Kind, LinkOp, LinkPlan, LinkRole, MARK, MacAddr, ObservedLink, ObservedLinks, VXLAN_PORT, VrfLinks,
    owned, plan as plan_links,
};
use network_operator::model::{IfName, RouteTables, VrfName};
use network_operator::notrack::{Notrack, ObservedNotrack};
use proptest::prelude::*;
use proptest::sample::Index;

const VTEP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 129);
const VRFS: [&str; 4] = ["a", "b", "c", "d"];
/// Where a filter of ours goes.
const PLACE: (u16, u32) = (20_000, 1);
/// Numbers of programs: of this build, of an older one, of somebody else, and the first that is loaded anew.
const CURRENT: u32 = 7;
const OLDER: u32 = 5;
const FOREIGN: u32 = 3;
const NEXT: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filter {
    place: (u16, u32),
    program: u32,
    ours: bool,
}

/// A qdisc for ingress, with its filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Qdisc {
    /// By us.
    added: bool,
    filters: Vec<Filter>,
    /// Somebody has a filter at egress.
    egress: bool,
}

impl Qdisc {
    fn others(&self) -> bool {
        self.egress || self.filters.iter().any(|filter| !filter.ours)
    }
}

/// A kernel that does what the plan's operations say, and refuses what the real one refuses.
#[derive(Debug, Clone, Default, PartialEq)]
struct Kernel {
    links: BTreeMap<String, ObservedLink>,
    next: u32,
    qdiscs: BTreeMap<u32, Qdisc>,
    program: Option<u32>,
    pinned: bool,
    older: bool,
    ports: BTreeMap<u32, Port>,
    notrack: ObservedNotrack,
}

impl Kernel {
    fn new() -> Self {
        let mut kernel = Self { next: 1, ..Self::default() };
        kernel.add("dum.underlay", Kind::Other("dummy".into()));
        kernel.get("dum.underlay").ipv4 = vec![VTEP];
        kernel.get("dum.underlay").mtu = 9100;
        kernel
    }

    fn get(&mut self, name: &str) -> &mut ObservedLink {
        self.links.get_mut(name).unwrap_or_else(|| panic!("ENODEV {name}"))
    }

    fn index(&self, name: &str) -> u32 {
        self.links.get(name).unwrap_or_else(|| panic!("ENODEV {name}")).index
    }

    fn qdisc(&mut self, name: &str) -> &mut Qdisc {
        let index = self.index(name);
        self.qdiscs.get_mut(&index).unwrap_or_else(|| panic!("EINVAL: no qdisc on {name}"))
    }

    fn links(&self) -> ObservedLinks {
        ObservedLinks::new(self.links.values().cloned())
    }

    fn seen(&self) -> ObservedRouter {
        let links = self.qdiscs.iter().map(|(index, qdisc)| {
            let ours = qdisc.filters.iter().filter(|filter| filter.ours);
            let ours = ours.map(|Filter { place: (priority, handle), program, .. }| SeenFilter {
                priority: *priority,
                handle: *handle,
                program: *program,
            });
            (*index, SeenLink { ours: ours.collect(), others: qdisc.others() })
        });
        let Self { program, pinned, older, .. } = *self;
        let (ports, notrack) = (self.ports.clone(), self.notrack.clone());
        ObservedRouter { program, pinned, older, links: links.collect(), ports, notrack }
    }

    fn apply(&mut self, op: &RouterOp) {
        match op {
            RouterOp::Load => {
                assert_eq!(self.program, None, "it is loaded");
                (self.program, self.pinned) = (Some(NEXT), true);
            }
            RouterOp::AddQdisc { link } => {
                let index = self.index(link.as_str());
                let before = self.qdiscs.insert(index, Qdisc { added: true, ..Qdisc::default() });
                assert_eq!(before, None, "EEXIST: qdisc of {link}");
            }
            RouterOp::SetPort { link, looks_from, in_vrf, own_qdisc } => {
                assert!(self.program.is_some(), "there is no map for the port {link}");
                let (index, looks_from) = (self.index(link.as_str()), self.index(looks_from.as_str()));
                self.ports.insert(index, Port { looks_from, in_vrf: *in_vrf, own_qdisc: *own_qdisc });
            }
            RouterOp::Attach { link } => {
                let program = self.program.expect("there is no program to attach");
                let filters = &mut self.qdisc(link.as_str()).filters;
                assert!(filters.iter().all(|filter| filter.place != PLACE), "EEXIST: filter on {link}");
                filters.push(Filter { place: PLACE, program, ours: true });
            }
            RouterOp::Replace { link, priority, handle } => {
                let program = self.program.expect("there is no program to replace another with");
                self.filter(link, *priority, *handle).program = program;
            }
            RouterOp::Detach { link, priority, handle } => {
                let gone = *self.filter(link, *priority, *handle);
                self.qdisc(link.as_str()).filters.retain(|filter| *filter != gone);
            }
            RouterOp::RemoveQdisc { link } => {
                let gone = self.qdisc(link.as_str()).clone();
                assert!(gone.filters.is_empty() && !gone.egress, "{link}: filters go with their qdisc");
                let index = self.index(link.as_str());
                self.qdiscs.remove(&index);
            }
            RouterOp::ForgetPort { index } => {
                assert!(self.program.is_some(), "there is no map to forget the port {index} in");
                self.ports.remove(index).unwrap_or_else(|| panic!("ENOENT: port {index}"));
            }
            RouterOp::WriteNotrack { notrack } => self.notrack = ObservedNotrack::Rules(notrack.clone()),
            RouterOp::RemoveNotrack => {
                assert_ne!(self.notrack, ObservedNotrack::Absent, "ENOENT: no table");
                self.notrack = ObservedNotrack::Absent;
            }
            RouterOp::UnpinOlder => self.older = false,
            RouterOp::Unpin => {
                (self.program, self.pinned, self.older) = (None, false, false);
                self.ports.clear();
            }
        }
    }

    fn filter(&mut self, link: &IfName, priority: u16, handle: u32) -> &mut Filter {
        let mut filters = self.qdisc(link.as_str()).filters.iter_mut();
        let found = filters.find(|filter| filter.place == (priority, handle));
        found.unwrap_or_else(|| panic!("ENOENT: filter {priority} {handle} on {link}"))
    }

    fn add(&mut self, name: &str, kind: Kind) -> u32 {
        assert!(!self.links.contains_key(name), "EEXIST {name}");
        let index = self.next;
        self.next += 1;
        let link = ObservedLink {
            index,
            name: name.into(),
            alias: None,
            mac: Some(MacAddr([2, 0, 0, 0, 0, index as u8])),
            mtu: 1500,
            up: true,
            master: None,
            addr_gen_mode: None,
            kind,
            port: None,
            ipv4: vec![],
        };
        self.links.insert(name.into(), link);
        index
    }

    fn veth(&mut self, near: &str, far: &str) {
        let near_index = self.add(near, Kind::Veth { peer: None });
        let far_index = self.add(far, Kind::Veth { peer: Some(near_index) });
        self.get(near).kind = Kind::Veth { peer: Some(far_index) };
    }

    fn enslave(&mut self, name: &str, master: &str) {
        self.get(name).master = Some(self.index(master));
    }

    /// The other end of a veth pair, its qdisc and its filters go with it.
    fn delete(&mut self, name: &str) {
        let gone = self.links.remove(name).unwrap_or_else(|| panic!("ENODEV {name}"));
        self.qdiscs.remove(&gone.index);
        for link in self.links.values_mut().filter(|link| link.master == Some(gone.index)) {
            link.master = None;
        }
        let Kind::Veth { peer: Some(peer) } = gone.kind else { return };
        let back = |link: &&ObservedLink| link.index == peer && link.kind == Kind::Veth { peer: Some(gone.index) };
        if let Some(peer) = self.links.values().find(back).map(|link| link.name.clone()) {
            self.delete(&peer);
        }
    }

    fn apply_to_links(&mut self, op: &LinkOp) {
        match op {
            LinkOp::CreateVrf { name, table } => drop(self.add(name.as_str(), Kind::Vrf { table: table.get() })),
            LinkOp::CreateBridge { name, master, .. } => {
                self.add(name.as_str(), Kind::Bridge);
                self.enslave(name.as_str(), master.as_str());
            }
            LinkOp::CreateVxlan { name, master, vni, local, dev, .. } => {
                let lower = Some(self.index(dev.as_str()));
                let (vni, local) = (vni.get(), Some(*local));
                self.add(name.as_str(), Kind::Vxlan { vni, local, lower, port: VXLAN_PORT, learning: false });
                self.enslave(name.as_str(), master.as_str());
            }
            LinkOp::CreateVeth { name, peer, master, .. } => {
                self.veth(name.as_str(), peer.as_str());
                self.enslave(name.as_str(), master.as_str());
            }
            LinkOp::Change { name, change } => {
                if let Some(master) = &change.master {
                    self.enslave(name.as_str(), master.as_str());
                }
                let link = self.get(name.as_str());
                if change.no_master {
                    link.master = None;
                }
                if change.mark {
                    link.alias = Some(MARK.into());
                }
            }
            LinkOp::SetUp { name } => self.get(name.as_str()).up = true,
            LinkOp::SetDown { name } => self.get(name.as_str()).up = false,
            LinkOp::Delete { name } => self.delete(name.as_str()),
        }
    }

    fn carry_out(&mut self, ops: &[RouterOp]) {
        ops.iter().for_each(|op| self.apply(op));
    }

    /// Plans and carries it out.
    fn run(&mut self, want: &DesiredRouter) -> RouterPlan {
        let plan = self.plan(want);
        self.carry_out(&plan.ops);
        plan
    }

    fn plan(&self, want: &DesiredRouter) -> RouterPlan {
        plan(want, &self.links(), &LinkPlan::default(), &self.seen())
    }

    fn master(&self, name: &str) -> Option<&ObservedLink> {
        let master = self.links.get(name)?.master?;
        self.links.values().find(|link| link.index == master)
    }

    /// How packets of a link must be looked at.
    fn right_port(&self, name: &str, own_qdisc: bool) -> Port {
        let bridge = self.master(name).filter(|master| master.kind == Kind::Bridge);
        let base = bridge.map_or(name, |bridge| bridge.name.as_str());
        let in_vrf = self.master(base).is_some_and(|master| matches!(master.kind, Kind::Vrf { .. }));
        Port { looks_from: self.index(base), in_vrf, own_qdisc }
    }

    /// Links of ours that are routed, and those of the site that can be.
    fn routed(&self, want: &DesiredRouter) -> BTreeSet<String> {
        let role = |link: &ObservedLink| owned(&want.known, link).map(|name| name.role);
        let ours = self
            .links
            .values()
            .filter(|link| matches!(role(link), Some(LinkRole::Vxlan | LinkRole::Bridge | LinkRole::VethVrf)));
        let of_site = self.links.values().filter(|link| {
            let named = want.interfaces.iter().any(|name| name.as_str() == link.name);
            named && !matches!(link.kind, Kind::Vrf { .. }) && (link.mac.is_some() || link.kind == Kind::Bridge)
        });
        let all = ours.chain(of_site).filter(|_| want.enabled);
        all.map(|link| link.name.clone()).collect()
    }
}

fn name(name: &str) -> IfName {
    name.parse().unwrap()
}

fn vrf(name: &str) -> VrfName {
    name.parse().unwrap()
}

/// What is wanted where VRF a is in the operator file.
fn want() -> DesiredRouter {
    let (interfaces, known) = (BTreeSet::new(), [vrf("a")].into());
    DesiredRouter { enabled: true, notrack: true, interfaces, known, vtep: Some(VTEP) }
}

/// A node with the links of VRF a.
fn with_vrf() -> Kernel {
    let mut kernel = Kernel::new();
    kernel.add("vr.a", Kind::Vrf { table: 50 });
    kernel.add("br.a", Kind::Bridge);
    kernel.add("vx.a", Kind::Vxlan { vni: 100, local: Some(VTEP), lower: Some(1), port: VXLAN_PORT, learning: false });
    kernel.veth("vd.a", "dv.a");
    for (port, master) in [("br.a", "vr.a"), ("vx.a", "br.a"), ("vd.a", "vr.a")] {
        kernel.enslave(port, master);
    }
    kernel
}

fn words(plan: &RouterPlan) -> Vec<String> {
    plan.ops.iter().map(ToString::to_string).collect()
}

/// The link that an operation names.
fn named(op: &RouterOp) -> Option<&IfName> {
    match op {
        RouterOp::AddQdisc { link }
        | RouterOp::SetPort { link, .. }
        | RouterOp::Attach { link }
        | RouterOp::Replace { link, .. }
        | RouterOp::Detach { link, .. }
        | RouterOp::RemoveQdisc { link } => Some(link),
        _ => None,
    }
}

/// What stands in the place of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Absent,
    Marked,
    /// Of the kind that its name says, without our mark: ours where the operator file knows the VRF.
    Plain,
    /// Of another kind, with our mark.
    OddMarked,
    /// Of another kind.
    Odd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeenQdisc {
    None,
    Ours,
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeenPort {
    None,
    Right,
    /// As from the link of that index, in a VRF or not.
    Other(u32, bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Current,
    Older,
    Foreign,
    Egress,
}

/// A link, and what is attached to it.
#[derive(Debug, Clone)]
struct Place {
    look: Look,
    master: Option<Index>,
    qdisc: SeenQdisc,
    filters: Vec<Put>,
    port: SeenPort,
}

#[derive(Debug, Clone)]
struct Node {
    places: Vec<Place>,
    known: [bool; 4],
    interfaces: Vec<bool>,
    /// Index that the kernel tells for the far end of a veth pair in another network namespace.
    far: u32,
    program: bool,
    pinned: bool,
    older: bool,
    stale: Vec<u32>,
    table: u8,
    enabled: bool,
    notrack: bool,
    vtep: bool,
}

const ROLES: [LinkRole; 4] = [LinkRole::Vrf, LinkRole::Bridge, LinkRole::Vxlan, LinkRole::VethVrf];
const SITE: [&str; 7] = ["br.site", "cali1", "eth0", "eth1", "tun0", "vrf-site", "xlan"];
const INTERFACES: [&str; 11] =
    ["br.site", "cali1", "eth0", "eth1", "tun0", "vrf-site", "br.a", "vr.b", "dv.c", "vx.d", "missing"];

fn place() -> impl Strategy<Value = Place> {
    let look = prop_oneof![
        2 => Just(Look::Absent), 4 => Just(Look::Marked), 3 => Just(Look::Plain), 1 => Just(Look::OddMarked),
        1 => Just(Look::Odd)
    ];
    let qdisc = prop_oneof![1 => Just(SeenQdisc::None), 2 => Just(SeenQdisc::Ours), 1 => Just(SeenQdisc::Foreign)];
    let put =
        prop_oneof![4 => Just(Put::Current), 2 => Just(Put::Older), 1 => Just(Put::Foreign), 1 => Just(Put::Egress)];
    let port = prop_oneof![
        1 => Just(SeenPort::None), 3 => Just(SeenPort::Right),
        1 => (1u32..40, any::<bool>()).prop_map(|(index, in_vrf)| SeenPort::Other(index, in_vrf))
    ];
    let filters = prop_oneof![3 => prop::collection::vec(put.clone(), 1), 2 => prop::collection::vec(put, 0..4)];
    (look, prop::option::weighted(0.7, any::<Index>()), qdisc, filters, port)
        .prop_map(|(look, master, qdisc, filters, port)| Place { look, master, qdisc, filters, port })
}

fn node() -> impl Strategy<Value = Node> {
    let count = VRFS.len() * ROLES.len() + SITE.len();
    let places = prop::collection::vec(place(), count);
    let interfaces = prop::collection::vec(any::<bool>(), INTERFACES.len());
    let flags = (any::<[bool; 4]>(), prop::bool::weighted(0.8), any::<(bool, bool, bool, bool)>());
    let stale = prop::collection::vec(100u32..110, 0..3);
    (places, interfaces, flags, stale, 0u8..4, prop::bool::weighted(0.8), 1u32..40).prop_map(
        |(places, interfaces, (known, program, (pinned, older, notrack, vtep)), stale, table, enabled, far)| Node {
            places,
            known,
            interfaces,
            far,
            program,
            pinned,
            older,
            stale,
            table,
            enabled,
            notrack,
            vtep,
        },
    )
}

impl Node {
    fn want(&self) -> DesiredRouter {
        let interfaces = INTERFACES.iter().zip(&self.interfaces).filter(|(_, named)| **named);
        let known = VRFS.iter().zip(self.known).filter(|(_, known)| *known);
        DesiredRouter {
            enabled: self.enabled,
            notrack: self.notrack,
            interfaces: interfaces.map(|(link, _)| name(link)).collect(),
            known: known.map(|(name, _)| vrf(name)).collect(),
            vtep: self.vtep.then_some(VTEP),
        }
    }

    fn kernel(&self) -> Kernel {
        let mut kernel = Kernel::new();
        let vrf_links =
            VRFS.into_iter().flat_map(|name| ROLES.map(|role| (role.name(&vrf(name)).to_string(), Some(role))));
        let site = SITE.into_iter().map(|name| (name.to_owned(), None));
        let places: Vec<_> =
            vrf_links.chain(site).zip(&self.places).filter(|(_, place)| place.look != Look::Absent).collect();
        for ((name, role), place) in &places {
            self.add(&mut kernel, name, *role, place.look);
        }
        let masters: Vec<(String, bool)> = kernel
            .links
            .values()
            .filter_map(|link| match link.kind {
                Kind::Bridge => Some((link.name.clone(), false)),
                Kind::Vrf { .. } => Some((link.name.clone(), true)),
                _ => None,
            })
            .collect();
        for ((name, _), place) in &places {
            let Some((master, is_vrf)) = place.master.filter(|_| !masters.is_empty()).map(|index| index.get(&masters))
            else {
                continue;
            };
            let kind = &kernel.links[name].kind;
            // Neither a VRF nor a bridge is a port of its like.
            if *kind != Kind::Bridge && !matches!(kind, Kind::Vrf { .. }) || *kind == Kind::Bridge && *is_vrf {
                kernel.enslave(name, master);
            }
        }
        (kernel.program, kernel.pinned) = (self.program.then_some(CURRENT), self.program || self.pinned || self.older);
        kernel.older = self.older;
        for ((name, _), place) in &places {
            self.attach(&mut kernel, name, place);
        }
        if self.program {
            let stale = Port { looks_from: 1, in_vrf: true, own_qdisc: true };
            kernel.ports.extend(self.stale.iter().map(|index| (*index, stale)));
        }
        kernel.notrack = match self.table {
            0 => ObservedNotrack::Absent,
            1 => ObservedNotrack::Altered,
            2 => ObservedNotrack::Rules(Notrack { links: [name("vr.gone")].into(), vtep: None }),
            _ => {
                let mut settled = kernel.clone();
                settled.run(&self.want());
                settled.notrack
            }
        };
        kernel
    }

    fn add(&self, kernel: &mut Kernel, name: &str, role: Option<LinkRole>, look: Look) {
        let kind = match (role, name) {
            _ if role.is_some() && matches!(look, Look::Odd | Look::OddMarked) => Kind::Other("dummy".into()),
            (Some(LinkRole::Vrf), _) | (_, "vrf-site") => Kind::Vrf { table: 40 + kernel.next },
            (Some(LinkRole::Bridge), _) | (_, "br.site") => Kind::Bridge,
            (Some(LinkRole::Vxlan), _) | (_, "xlan") => Kind::Vxlan {
                vni: 500 + kernel.next,
                local: Some(VTEP),
                lower: Some(1),
                port: VXLAN_PORT,
                learning: false,
            },
            (Some(_), _) => {
                let far = name.replacen("vd", "dv", 1);
                kernel.veth(name, &far);
                if look == Look::Marked {
                    kernel.get(&far).alias = Some(MARK.into());
                }
                kernel.get(name).kind.clone()
            }
            (_, "cali1") => Kind::Veth { peer: Some(self.far) },
            _ => Kind::Other(String::new()),
        };
        if !kernel.links.contains_key(name) {
            kernel.add(name, kind);
        }
        let link = kernel.get(name);
        if role.is_some() && matches!(look, Look::Marked | Look::OddMarked) {
            link.alias = Some(MARK.into());
        }
        if name == "tun0" {
            link.mac = None;
        }
    }

    fn attach(&self, kernel: &mut Kernel, name: &str, place: &Place) {
        let index = kernel.index(name);
        let own = place.qdisc == SeenQdisc::Ours;
        let port = match place.port {
            SeenPort::Other(looks_from, in_vrf) => Some(Port { looks_from, in_vrf, own_qdisc: own }),
            SeenPort::None if !own => None,
            _ => Some(kernel.right_port(name, own)),
        };
        // Without maps nobody knows whose a qdisc is.
        let port = port.filter(|_| kernel.program.is_some() || kernel.pinned);
        kernel.ports.extend(port.map(|port| (index, port)));
        if place.qdisc == SeenQdisc::None {
            return;
        }
        let mut qdisc = Qdisc { added: own && port.is_some(), ..Qdisc::default() };
        for put in &place.filters {
            let ours = |program: u32, qdisc: &Qdisc| {
                let count = u32::try_from(qdisc.filters.len()).unwrap();
                Filter { place: (PLACE.0, PLACE.1 + count), program, ours: true }
            };
            let priority = 100 + u16::try_from(qdisc.filters.len()).unwrap();
            match put {
                // A program that is loaded anew has a number of its own.
                Put::Current => qdisc.filters.push(ours(CURRENT, &qdisc)),
                Put::Older => qdisc.filters.push(ours(OLDER, &qdisc)),
                Put::Foreign => qdisc.filters.push(Filter { place: (priority, 1), program: FOREIGN, ours: false }),
                Put::Egress => qdisc.egress = true,
            }
        }
        kernel.qdiscs.insert(index, qdisc);
    }
}

/// Qdiscs and filters that are not ours, by link.
fn foreign(kernel: &Kernel) -> BTreeMap<u32, (bool, Vec<Filter>, bool)> {
    let qdiscs = kernel.qdiscs.iter().filter(|(_, qdisc)| !qdisc.added || qdisc.others());
    qdiscs
        .map(|(index, qdisc)| {
            let filters = qdisc.filters.iter().filter(|filter| !filter.ours).copied().collect();
            (*index, (qdisc.added, filters, qdisc.egress))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_can_be_carried_out_and_nothing_is_left_to_do(node in node()) {
        let (mut kernel, want) = (node.kernel(), node.want());
        let problems = kernel.run(&want).problems;
        let again = kernel.plan(&want);
        prop_assert_eq!(&again.ops, &vec![]);
        prop_assert_eq!(&again.problems, &problems);
        let routed = kernel.routed(&want);
        for link in kernel.links.values() {
            let ours = |qdisc: &Qdisc| qdisc.filters.iter().filter(|filter| filter.ours).map(|filter| filter.program).collect();
            let ours: Vec<u32> = kernel.qdiscs.get(&link.index).map(ours).unwrap_or_default();
            let expected = if routed.contains(&link.name) { vec![kernel.program.unwrap()] } else { vec![] };
            prop_assert_eq!(ours, expected, "{}", &link.name);
        }
        let ports = routed.iter().map(|name| {
            let index = kernel.index(name);
            (index, kernel.right_port(name, kernel.qdiscs[&index].added))
        });
        prop_assert_eq!(&kernel.ports, &ports.collect());
        let table = kernel.notrack != ObservedNotrack::Absent;
        prop_assert_eq!((table, kernel.pinned), (want.notrack && !routed.is_empty(), !routed.is_empty()));
        let reported = want.interfaces.iter().filter(|name| !routed.contains(name.as_str())).count();
        prop_assert_eq!(problems.len(), if want.enabled { reported } else { 0 });
    }

    #[test]
    fn nothing_foreign_is_named_or_changed(node in node()) {
        let (mut kernel, want) = (node.kernel(), node.want());
        let before = kernel.clone();
        let plan = kernel.run(&want);
        prop_assert_eq!(&kernel.links, &before.links);
        for (index, (added, filters, egress)) in foreign(&before) {
            let after = foreign(&kernel).remove(&index).or_else(|| {
                let qdisc = kernel.qdiscs.get(&index)?;
                Some((qdisc.added, vec![], qdisc.egress))
            });
            prop_assert_eq!(after, Some((added, filters, egress)));
        }
        for link in plan.ops.iter().filter_map(named) {
            let index = before.index(link.as_str());
            let has_ours = before.qdiscs.get(&index).is_some_and(|qdisc| qdisc.added || qdisc.filters.iter().any(|filter| filter.ours));
            prop_assert!(has_ours || before.routed(&want).contains(link.as_str()), "{} is none of our business", link);
        }
        for op in &plan.ops {
            if let RouterOp::WriteNotrack { notrack } = op {
                let ours = |name: &IfName| owned(&want.known, &before.links[name.as_str()]).is_some();
                prop_assert!(notrack.links.iter().all(ours), "{}", notrack);
            }
        }
    }

    #[test]
    fn a_router_that_is_switched_off_leaves_nothing_behind(node in node()) {
        let (mut kernel, want) = (node.kernel(), DesiredRouter { enabled: false, ..node.want() });
        kernel.run(&want);
        prop_assert!(kernel.qdiscs.values().all(|qdisc| qdisc.filters.iter().all(|filter| !filter.ours)));
        prop_assert!(kernel.qdiscs.values().all(|qdisc| !qdisc.added || qdisc.others()));
        prop_assert_eq!((&kernel.notrack, kernel.pinned, kernel.program), (&ObservedNotrack::Absent, false, None));
    }

    #[test]
    fn a_link_that_is_as_it_must_be_gets_no_operation(node in node()) {
        let (mut kernel, want) = (node.kernel(), node.want());
        let before = kernel.clone();
        let plan = kernel.run(&want);
        let at = |kernel: &Kernel, name: &str| {
            let index = kernel.index(name);
            (kernel.qdiscs.get(&index).cloned(), kernel.ports.get(&index).copied())
        };
        for link in plan.ops.iter().filter_map(named).filter(|_| before.program.is_some()) {
            prop_assert_ne!(at(&before, link.as_str()), at(&kernel, link.as_str()), "{}", link);
        }
    }

    #[test]
    fn a_plan_that_breaks_off_is_finished_by_the_next_one(node in node(), end in any::<Index>(), once_more in any::<Index>()) {
        let (mut kernel, want) = (node.kernel(), node.want());
        let mut whole = kernel.clone();
        whole.run(&want);
        for end in [end, once_more] {
            let ops = kernel.plan(&want).ops;
            kernel.carry_out(&ops[..end.index(ops.len() + 1)]);
        }
        kernel.run(&want);
        prop_assert_eq!(&kernel, &whole);
        kernel.run(&DesiredRouter { enabled: false, ..want });
        prop_assert!(kernel.qdiscs.values().all(|qdisc| !qdisc.added || qdisc.others()), "{:?}", kernel.qdiscs);
    }

    #[test]
    fn what_is_planned_before_the_links_change_is_what_is_planned_after(
        node in node(),
        wanted in prop::collection::btree_map("[a-d]", 100i64..104, 0..4),
    ) {
        let (mut kernel, want) = (node.kernel(), node.want());
        let mut vnis = BTreeSet::new();
        let wanted = wanted.into_iter().filter(|(_, vni)| vnis.insert(*vni));
        let vrfs = wanted.map(|(name, vni)| {
            (vrf(&name), VrfLinks { vni: vni.try_into().unwrap(), mtu: 9000.try_into().unwrap() })
        });
        let desired = DesiredLinks {
            vrfs: vrfs.collect(),
            known: want.known.clone(),
            frozen: BTreeSet::new(),
            tables: RouteTables::default(),
            underlay: kernel.links().underlay(&name("dum.underlay")).unwrap(),
        };
        let links = plan_links(&desired, &kernel.links());
        let before = plan(&want, &kernel.links(), &links, &kernel.seen());
        links.ops().for_each(|op| kernel.apply_to_links(op));
        let after = kernel.plan(&want);
        prop_assert_eq!(&before, &after);
        kernel.carry_out(&before.ops);
        prop_assert_eq!(&kernel.plan(&want).ops, &vec![]);
    }
}

fn with_interfaces(interfaces: &[&str]) -> DesiredRouter {
    DesiredRouter { interfaces: interfaces.iter().map(|link| name(link)).collect(), ..want() }
}

/// Nothing but the router on a link of the site, for plans that are short.
fn only(interfaces: &[&str]) -> DesiredRouter {
    DesiredRouter { notrack: false, known: BTreeSet::new(), ..with_interfaces(interfaces) }
}

#[test]
fn the_first_plan_loads_keeps_conntrack_away_and_attaches_link_by_link() {
    let plan = with_vrf().plan(&want());
    let set_port = |link: &str, looks_from: &str| RouterOp::SetPort {
        link: name(link),
        looks_from: name(looks_from),
        in_vrf: true,
        own_qdisc: true,
    };
    let links = ["br.a", "vd.a", "vr.a"].map(name);
    let mut ops =
        vec![RouterOp::Load, RouterOp::WriteNotrack { notrack: Notrack { links: links.into(), vtep: Some(VTEP) } }];
    for (link, looks_from) in [("br.a", "br.a"), ("vd.a", "vd.a"), ("vx.a", "br.a")] {
        ops.push(set_port(link, looks_from));
        ops.push(RouterOp::AddQdisc { link: name(link) });
        ops.push(RouterOp::Attach { link: name(link) });
    }
    assert_eq!(plan, RouterPlan { ops, problems: vec![] });
}

#[test]
fn a_new_build_takes_the_place_of_the_old_one_without_a_gap() {
    let mut kernel = with_vrf();
    kernel.run(&want());
    // The program of this build is not there yet, that of another one and its ports are.
    (kernel.program, kernel.older) = (None, true);
    for qdisc in kernel.qdiscs.values_mut() {
        qdisc.filters[0].program = OLDER;
    }
    let plan = kernel.run(&want());
    assert_eq!(
        words(&plan),
        [
            "load the eBPF router",
            "replace the eBPF router of br.a",
            "replace the eBPF router of vd.a",
            "replace the eBPF router of vx.a",
            "unpin the eBPF routers of other builds",
        ]
    );
    assert!(kernel.ports.values().all(|port| port.own_qdisc), "whose the qdiscs are outlives a build");
}

#[test]
fn a_filter_that_was_removed_by_hand_is_attached_again_and_nothing_else_is_done() {
    let mut kernel = with_vrf();
    kernel.run(&want());
    kernel.qdisc("vx.a").filters.clear();
    assert_eq!(kernel.run(&want()).ops, [RouterOp::Attach { link: name("vx.a") }]);
}

#[test]
fn a_qdisc_that_was_removed_by_hand_comes_back_with_its_filter() {
    let mut kernel = with_vrf();
    kernel.run(&want());
    let index = kernel.index("vx.a");
    kernel.qdiscs.remove(&index);
    let link = name("vx.a");
    assert_eq!(kernel.run(&want()).ops, [RouterOp::AddQdisc { link: link.clone() }, RouterOp::Attach { link }]);
}

#[test]
fn a_vrf_without_links_on_this_node_needs_no_router() {
    assert_eq!(Kernel::new().plan(&want()), RouterPlan::default());
}

#[test]
fn a_link_of_the_site_that_is_missing_is_reported_and_attached_when_it_appears() {
    let (mut kernel, want) = (Kernel::new(), only(&["later"]));
    let RouterPlan { ops, problems } = kernel.run(&want);
    assert_eq!(ops, []);
    assert_eq!(
        problems[0].to_string(),
        "bpfInterfaces: link later is not there; create it, or take it out of bpfInterfaces in the operator file: \
         the router is attached when it appears"
    );
    kernel.add("later", Kind::Other(String::new()));
    let plan = kernel.run(&want);
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    assert_eq!(words(&plan).last().unwrap(), "attach the eBPF router to later");
}

#[test]
fn a_vrf_and_a_link_without_ethernet_header_are_refused_with_a_cure() {
    let mut kernel = with_vrf();
    kernel.add("tun0", Kind::Other("tun".into()));
    kernel.get("tun0").mac = None;
    let RouterPlan { ops, problems } = kernel.plan(&only(&["tun0", "vr.a"]));
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(ops, []);
    assert_eq!(
        problems,
        [
            "bpfInterfaces: link tun0 cannot have the eBPF router; name one whose frames have an Ethernet header",
            "bpfInterfaces: link vr.a cannot have the eBPF router; name the interfaces that are in the VRF",
        ]
    );
}

#[test]
fn a_port_of_a_bridge_looks_from_its_bridge_and_follows_it_into_a_vrf() {
    let mut kernel = Kernel::new();
    kernel.add("br.site", Kind::Bridge);
    kernel.add("eth0", Kind::Other(String::new()));
    kernel.add("vrf-site", Kind::Vrf { table: 40 });
    kernel.enslave("eth0", "br.site");
    let port = |in_vrf| RouterOp::SetPort { link: name("eth0"), looks_from: name("br.site"), in_vrf, own_qdisc: true };
    assert!(kernel.run(&only(&["eth0"])).ops.contains(&port(false)));
    kernel.enslave("br.site", "vrf-site");
    assert_eq!(kernel.run(&only(&["eth0"])).ops, [port(true)]);
}

#[test]
fn a_link_in_the_default_vrf_goes_by_the_rules() {
    let mut kernel = Kernel::new();
    kernel.add("eth0", Kind::Other(String::new()));
    let link = name("eth0");
    assert_eq!(
        kernel.run(&only(&["eth0"])).ops,
        [
            RouterOp::Load,
            RouterOp::SetPort { link: link.clone(), looks_from: link.clone(), in_vrf: false, own_qdisc: true },
            RouterOp::AddQdisc { link: link.clone() },
            RouterOp::Attach { link },
        ]
    );
}

#[test]
fn a_qdisc_of_the_site_stays_when_the_router_goes_and_one_of_ours_does_not() {
    let mut kernel = Kernel::new();
    for link in ["eth0", "eth1"] {
        kernel.add(link, Kind::Other(String::new()));
    }
    let theirs = kernel.index("eth0");
    kernel.qdiscs.insert(theirs, Qdisc::default());
    kernel.run(&only(&["eth0", "eth1"]));
    let plan = kernel.run(&DesiredRouter { enabled: false, ..only(&["eth0", "eth1"]) });
    assert_eq!(
        words(&plan),
        [
            "detach the eBPF router from eth0 (pref 20000 handle 0x1)",
            "detach the eBPF router from eth1 (pref 20000 handle 0x1)",
            "remove qdisc clsact from eth1",
            "unpin the eBPF router",
        ]
    );
    assert_eq!(kernel.qdiscs, [(theirs, Qdisc::default())].into());
}

#[test]
fn links_that_are_about_to_go_need_no_detaching() {
    let mut kernel = with_vrf();
    kernel.run(&want());
    let links = LinkPlan { remove: vec![LinkOp::Delete { name: name("vx.a") }], ..LinkPlan::default() };
    let index = kernel.index("vx.a");
    let plan = plan(&want(), &kernel.links(), &links, &kernel.seen());
    assert_eq!(plan.ops, [RouterOp::ForgetPort { index }]);
}

#[test]
fn a_veth_end_whose_peer_is_elsewhere_does_not_go_with_a_link_of_that_index() {
    let mut kernel = with_vrf();
    kernel.add("cali1", Kind::Veth { peer: Some(kernel.index("vd.a")) });
    let links = LinkPlan { remove: vec![LinkOp::Delete { name: name("vd.a") }], ..LinkPlan::default() };
    let planned = plan(&only(&["cali1"]), &kernel.links(), &links, &kernel.seen());
    assert_eq!(words(&planned).last().unwrap(), "attach the eBPF router to cali1");
    links.ops().for_each(|op| kernel.apply_to_links(op));
    assert_eq!(planned, kernel.plan(&only(&["cali1"])));
}
