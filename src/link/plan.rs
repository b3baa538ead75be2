//! From the links that are seen to those that are wanted. Pure.

use std::collections::BTreeSet;

use super::{
    AddrGenMode, BridgePort, DesiredLinks, Kind, LinkChange, LinkOp, LinkPlan, LinkProblem, LinkRole, MARK,
    ObservedLink, ObservedLinks, OwnedName, VXLAN_PORT, VrfLinks,
};
use crate::model::{IfName, RouteTable, VrfName};

/// Plans all link operations.
///
/// A link is ours when its name is one that we generate and it carries our mark, or its VRF stands in the operator
/// file and it is of the kind that its name says. Any other link is never named in an operation.
pub fn plan(want: &DesiredLinks, seen: &ObservedLinks) -> LinkPlan {
    let mut plan = LinkPlan::default();
    let mut tables = Tables::new(want, seen);
    for (vrf, links) in &want.vrfs {
        let planned = VrfPlan { want, seen, vrf, links }.plan(&mut tables);
        match planned {
            Ok((create, activate)) => {
                plan.create.extend(create);
                plan.activate.extend(activate);
            }
            Err(problem) => plan.problems.push(problem),
        }
    }
    plan.remove = removals(want, seen);
    free_vnis(want, seen, &mut plan);
    plan
}

/// The kernel has one VXLAN of a VNI and port, so what is deleted goes before what is made: two VRFs may swap VNIs, or
/// one may take over the VNI of one that goes.
fn free_vnis(want: &DesiredLinks, seen: &ObservedLinks, plan: &mut LinkPlan) {
    let wanted: BTreeSet<u32> = want.vrfs.values().map(|links| links.vni.get()).collect();
    let in_the_way = |op: &LinkOp| match op {
        LinkOp::Delete { name } => seen
            .get(name.as_str())
            .is_some_and(|link| matches!(link.kind, Kind::Vxlan { vni, .. } if wanted.contains(&vni))),
        _ => false,
    };
    let (mut first, remove) = std::mem::take(&mut plan.remove).into_iter().partition::<Vec<_>, _>(in_the_way);
    let (deletes, create) =
        std::mem::take(&mut plan.create).into_iter().partition::<Vec<_>, _>(|op| matches!(op, LinkOp::Delete { .. }));
    first.extend(deletes);
    first.extend(create);
    (plan.create, plan.remove) = (first, remove);
}

fn marked(link: &ObservedLink) -> bool {
    link.alias.as_deref() == Some(MARK)
}

fn fits(role: LinkRole, kind: &Kind) -> bool {
    match role {
        LinkRole::Vrf => matches!(kind, Kind::Vrf { .. }),
        LinkRole::Bridge => matches!(kind, Kind::Bridge),
        LinkRole::Vxlan => matches!(kind, Kind::Vxlan { .. }),
        LinkRole::VethVrf | LinkRole::VethDefault => matches!(kind, Kind::Veth { .. }),
    }
}

/// Whether a link is ours: `known` are the VRFs of the operator file.
pub fn owned(known: &BTreeSet<VrfName>, link: &ObservedLink) -> Option<OwnedName> {
    let name = OwnedName::recognise(&link.name)?;
    (marked(link) || (known.contains(&name.vrf) && fits(name.role, &link.kind))).then_some(name)
}

/// Ports go before what they are ports of; the far end of a veth pair goes with the near one.
fn removals(want: &DesiredLinks, seen: &ObservedLinks) -> Vec<LinkOp> {
    let mut remove = Vec::new();
    for role in [LinkRole::VethVrf, LinkRole::VethDefault, LinkRole::Vxlan, LinkRole::Bridge, LinkRole::Vrf] {
        for link in seen.iter() {
            let Some(name) = owned(&want.known, link) else { continue };
            let stays = want.vrfs.contains_key(&name.vrf) || want.frozen.contains(&name.vrf);
            if name.role != role || stays {
                continue;
            }
            // Its other end has taken it along.
            let gone = |op: &LinkOp| matches!(op, LinkOp::Delete { name } if is_peer(seen, link, name));
            if role == LinkRole::VethDefault && remove.iter().any(gone) {
                continue;
            }
            remove.push(LinkOp::Delete { name: role.name(&name.vrf) });
        }
    }
    remove
}

fn is_peer(seen: &ObservedLinks, link: &ObservedLink, other: &IfName) -> bool {
    let Some(other) = seen.get(other.as_str()) else { return false };
    matches!(other.kind, Kind::Veth { peer: Some(peer) } if peer == link.index)
}

/// Routing tables that are taken, and those still to be had.
struct Tables<'a> {
    want: &'a DesiredLinks,
    taken: BTreeSet<u32>,
}

impl<'a> Tables<'a> {
    fn new(want: &'a DesiredLinks, seen: &ObservedLinks) -> Self {
        let tables = seen.iter().filter_map(|link| match link.kind {
            Kind::Vrf { table } => Some(table),
            _ => None,
        });
        Self { want, taken: tables.collect() }
    }

    fn usable(&self, seen: &ObservedLinks, link: &ObservedLink, table: u32) -> bool {
        let within = RouteTable::try_from(i64::from(table)).is_ok_and(|table| self.want.tables.contains(table));
        // Of two VRFs on one table the first by name keeps it, but a foreign one always does.
        let shared = seen.iter().any(|other| {
            let first = owned(&self.want.known, other).is_none() || other.name < link.name;
            other.index != link.index && first && matches!(other.kind, Kind::Vrf { table: t } if t == table)
        });
        within && !shared
    }

    fn take(&mut self, vrf: &VrfName) -> Result<RouteTable, LinkProblem> {
        let free = self.want.tables.iter().find(|table| !self.taken.contains(&table.get()));
        let table = free.ok_or_else(|| LinkProblem {
            vrf: vrf.clone(),
            message: format!(
                "no routing table is free from {} to {}",
                self.want.tables.start(),
                self.want.tables.end()
            ),
            cure: "widen routeTables in the operator file".to_owned(),
        })?;
        self.taken.insert(table.get());
        Ok(table)
    }
}

type Steps = (Vec<LinkOp>, Vec<LinkOp>);

/// The links of one VRF.
struct VrfPlan<'a> {
    want: &'a DesiredLinks,
    seen: &'a ObservedLinks,
    vrf: &'a VrfName,
    links: &'a VrfLinks,
}

/// What a link must look like beside its kind.
struct Wanted {
    master: Option<(IfName, Option<u32>)>,
    mac: Option<super::MacAddr>,
    mtu: Option<u32>,
    addr_gen_mode: Option<AddrGenMode>,
    port: bool,
}

impl VrfPlan<'_> {
    fn plan(&self, tables: &mut Tables<'_>) -> Result<Steps, LinkProblem> {
        for role in LinkRole::ALL {
            self.not_in_the_way(role)?;
        }
        self.vni_is_free()?;
        let mut create = Vec::new();
        let mut fresh = BTreeSet::new();
        let vrf = self.vrf_device(tables, &mut create, &mut fresh)?;
        let bridge = self.bridge(vrf, &mut create, &mut fresh);
        self.vxlan(bridge, &mut create, &mut fresh);
        self.veth(vrf, &mut create, &mut fresh);
        let down = |op: &LinkOp, name: &IfName| matches!(op, LinkOp::SetDown { name: other } if other == name);
        let names = LinkRole::ALL.into_iter().map(|role| self.name(role));
        let activate = names.filter(|name| {
            let up = self.seen.get(name.as_str()).is_some_and(|link| link.up);
            !up || fresh.contains(name) || create.iter().any(|op| down(op, name))
        });
        let activate = activate.map(|name| LinkOp::SetUp { name }).collect();
        Ok((create, activate))
    }

    fn name(&self, role: LinkRole) -> IfName {
        role.name(self.vrf)
    }

    fn link(&self, role: LinkRole) -> Option<&ObservedLink> {
        self.seen.get(self.name(role).as_str())
    }

    fn not_in_the_way(&self, role: LinkRole) -> Result<(), LinkProblem> {
        let Some(link) = self.link(role).filter(|link| owned(&self.want.known, link).is_none()) else { return Ok(()) };
        Err(LinkProblem {
            vrf: self.vrf.clone(),
            message: format!("a link {} that is not ours is in the way", link.name),
            cure: format!("rename or delete it, or give it the alias {MARK:?} to have it replaced"),
        })
    }

    /// The kernel has one VXLAN of a VNI and port.
    fn vni_is_free(&self) -> Result<(), LinkProblem> {
        let vni = self.links.vni.get();
        let taken = self.seen.iter().find(|link| {
            let same = matches!(link.kind, Kind::Vxlan { vni: other, port: VXLAN_PORT, .. } if other == vni);
            same && owned(&self.want.known, link).is_none()
        });
        let Some(link) = taken else { return Ok(()) };
        Err(LinkProblem {
            vrf: self.vrf.clone(),
            message: format!("the link {}, which is not ours, has VNI {vni} already", link.name),
            cure: "delete it, or give the VRF another VNI in the operator file".to_owned(),
        })
    }

    /// Returns the index of a VRF that stays, `None` of one that is new.
    fn vrf_device(
        &self,
        tables: &mut Tables<'_>,
        ops: &mut Vec<LinkOp>,
        fresh: &mut BTreeSet<IfName>,
    ) -> Result<Option<u32>, LinkProblem> {
        let name = self.name(LinkRole::Vrf);
        if let Some(link) = self.link(LinkRole::Vrf) {
            // vrf_newlink takes the table, and there is no vrf_changelink: another table is another device.
            if matches!(link.kind, Kind::Vrf { table } if tables.usable(self.seen, link, table)) {
                self.settle(link, Wanted { master: None, mac: None, mtu: None, addr_gen_mode: None, port: false }, ops);
                return Ok(Some(link.index));
            }
        }
        let table = tables.take(self.vrf)?;
        if self.link(LinkRole::Vrf).is_some() {
            ops.push(LinkOp::Delete { name: name.clone() });
        }
        ops.push(LinkOp::CreateVrf { name: name.clone(), table });
        ops.push(mark(&name, None));
        fresh.insert(name);
        Ok(None)
    }

    fn bridge(&self, vrf: Option<u32>, ops: &mut Vec<LinkOp>, fresh: &mut BTreeSet<IfName>) -> Option<u32> {
        let (name, master) = (self.name(LinkRole::Bridge), self.name(LinkRole::Vrf));
        let (mac, mtu) = (self.want.router_mac(), self.want.overlay_mtu());
        let link = self.link(LinkRole::Bridge);
        if let Some(link) = link.filter(|link| link.kind == Kind::Bridge) {
            let wanted = Wanted {
                master: Some((master, vrf)),
                mac: Some(mac),
                mtu: Some(mtu),
                addr_gen_mode: Some(AddrGenMode::None),
                port: false,
            };
            self.settle(link, wanted, ops);
            return Some(link.index);
        }
        if link.is_some() {
            ops.push(LinkOp::Delete { name: name.clone() });
        }
        ops.push(LinkOp::CreateBridge { name: name.clone(), master, mac, mtu });
        ops.push(mark(&name, Some(AddrGenMode::None)));
        fresh.insert(name);
        None
    }

    fn vxlan(&self, bridge: Option<u32>, ops: &mut Vec<LinkOp>, fresh: &mut BTreeSet<IfName>) {
        let (name, master) = (self.name(LinkRole::Vxlan), self.name(LinkRole::Bridge));
        let (mac, mtu) = (self.want.router_mac(), self.want.overlay_mtu());
        let underlay = &self.want.underlay;
        let vni = self.links.vni;
        let kind = Kind::Vxlan {
            vni: vni.get(),
            local: Some(underlay.ip),
            lower: Some(underlay.index),
            port: VXLAN_PORT,
            learning: false,
        };
        let link = self.link(LinkRole::Vxlan);
        // vxlan_changelink refuses VNI and port: another kind of VXLAN is another device.
        if let Some(link) = link.filter(|link| link.kind == kind) {
            let wanted = Wanted {
                master: Some((master, bridge)),
                mac: Some(mac),
                mtu: Some(mtu),
                addr_gen_mode: Some(AddrGenMode::None),
                port: true,
            };
            self.settle(link, wanted, ops);
            return;
        }
        if link.is_some() {
            ops.push(LinkOp::Delete { name: name.clone() });
        }
        let (local, dev) = (underlay.ip, underlay.name.clone());
        ops.push(LinkOp::CreateVxlan { name: name.clone(), master, vni, local, dev, mac, mtu });
        let change = LinkChange {
            mark: true,
            addr_gen_mode: Some(AddrGenMode::None),
            overlay_port: true,
            ..LinkChange::default()
        };
        ops.push(LinkOp::Change { name: name.clone(), change });
        fresh.insert(name);
    }

    fn veth(&self, vrf: Option<u32>, ops: &mut Vec<LinkOp>, fresh: &mut BTreeSet<IfName>) {
        let (near, far) = (self.name(LinkRole::VethVrf), self.name(LinkRole::VethDefault));
        let (master, mtu) = (self.name(LinkRole::Vrf), self.links.mtu.get());
        let ends = (self.link(LinkRole::VethVrf), self.link(LinkRole::VethDefault));
        if let (Some(a), Some(b)) = ends
            && a.kind == (Kind::Veth { peer: Some(b.index) })
            && b.kind == (Kind::Veth { peer: Some(a.index) })
        {
            let wanted = |master| Wanted {
                master,
                mac: None,
                mtu: Some(mtu),
                addr_gen_mode: Some(AddrGenMode::Eui64),
                port: false,
            };
            self.settle(a, wanted(Some((master, vrf))), ops);
            self.settle(b, wanted(None), ops);
            return;
        }
        for (end, name) in [(ends.0, &near), (ends.1, &far)] {
            let deleted = |op: &LinkOp, link: &ObservedLink| matches!(op, LinkOp::Delete { name } if is_peer(self.seen, link, name));
            if end.is_some_and(|link| !ops.iter().any(|op| deleted(op, link))) {
                ops.push(LinkOp::Delete { name: name.clone() });
            }
        }
        let [mac, peer_mac] =
            [LinkRole::VethVrf, LinkRole::VethDefault].map(|role| DesiredLinks::veth_mac(role, self.links.vni));
        ops.push(LinkOp::CreateVeth { name: near.clone(), peer: far.clone(), master, mac, peer_mac, mtu });
        for name in [near, far] {
            ops.push(mark(&name, Some(AddrGenMode::Eui64)));
            fresh.insert(name);
        }
    }

    /// Changes what differs on a link that stays.
    fn settle(&self, link: &ObservedLink, wanted: Wanted, ops: &mut Vec<LinkOp>) {
        let Wanted { master, mac, mtu, addr_gen_mode, port } = wanted;
        let Ok(name) = link.name.parse::<IfName>() else { return };
        let mut change = LinkChange { mark: !marked(link), ..LinkChange::default() };
        change.mac = mac.filter(|mac| link.mac != Some(*mac));
        change.mtu = mtu.filter(|mtu| link.mtu != *mtu);
        change.addr_gen_mode = addr_gen_mode.filter(|mode| link.addr_gen_mode != Some(*mode));
        match master {
            // A master that is new has no index yet: its ports lost theirs with the old one.
            Some((master, index)) if index.is_none() || link.master != index => change.master = Some(master),
            Some(_) => {}
            None => change.no_master = link.master.is_some(),
        }
        let moved = change.master.is_some();
        let right = BridgePort { learning: false, hairpin: true, neigh_suppress: false };
        let port = port && (moved || link.port != Some(right));
        if change.addr_gen_mode.is_some() && link.up {
            // The mode counts when a link comes up; addresses of the old mode go when it goes down.
            ops.push(LinkOp::SetDown { name: name.clone() });
        }
        if port && moved {
            // Port attributes need the port to be there before the message that sets them (rtnl_newlink).
            ops.push(LinkOp::Change { name: name.clone(), change });
            change = LinkChange::default();
        }
        change.overlay_port = port;
        if !change.is_empty() {
            ops.push(LinkOp::Change { name, change });
        }
    }
}

/// IFLA_IFALIAS is not looked at in the message that makes a link, and the mode is refused there (EAFNOSUPPORT).
fn mark(name: &IfName, addr_gen_mode: Option<AddrGenMode>) -> LinkOp {
    LinkOp::Change { name: name.clone(), change: LinkChange { mark: true, addr_gen_mode, ..LinkChange::default() } }
}
