//! From the router that is seen to the one that is wanted. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::outlook::{Expected, Outlook, Shape};
use super::{ObservedRouter, Port, RouterOp, RouterPlan, RouterProblem, SeenFilter, SeenLink};
use crate::config::OperatorConfig;
use crate::link::{LinkPlan, LinkRole, ObservedLinks, OwnedName, owned};
use crate::model::{IfName, VrfName};
use crate::notrack::{Notrack, ObservedNotrack};

/// Where the router must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredRouter {
    /// Whether it must be anywhere.
    pub enabled: bool,
    /// Whether what it leaves to the kernel is kept from conntrack.
    pub notrack: bool,
    /// Links of the site that it is attached to.
    pub interfaces: BTreeSet<IfName>,
    /// VRFs of the operator file: their links are ours without a mark.
    pub known: BTreeSet<VrfName>,
    /// The address of the underlay: its VXLAN packets are not tracked.
    pub vtep: Option<Ipv4Addr>,
}

impl DesiredRouter {
    /// Takes what concerns the router out of the operator file. Without a usable underlay, no VXLAN packet is known to be ours.
    pub fn new(config: &OperatorConfig, links: &ObservedLinks) -> Self {
        Self {
            enabled: config.bpf.enabled,
            notrack: config.bpf.notrack,
            interfaces: config.bpf_interfaces.clone(),
            known: config.own_vrfs(),
            vtep: links.underlay(&config.underlay_interface).ok().map(|underlay| underlay.ip),
        }
    }
}

/// Plans what is to be done once the links are as their plan says.
///
/// The router is attached to `vx.V`, `br.V` and `vd.V` of every VRF that has links on this node, and to the site's links. Only
/// filters, qdiscs, pins and the table that are ours are ever named in a step.
pub fn plan(want: &DesiredRouter, links: &ObservedLinks, link_plan: &LinkPlan, seen: &ObservedRouter) -> RouterPlan {
    let outlook = Outlook::new(links, link_plan);
    let mut plan = RouterPlan::default();
    let attached = if want.enabled { wanted(want, links, &outlook, &mut plan.problems) } else { BTreeSet::new() };
    if want.enabled && seen.program.is_none() && !attached.is_empty() {
        plan.ops.push(RouterOp::Load);
    }
    let notrack = (want.notrack && !attached.is_empty()).then(|| notrack(want, links, &outlook));
    match (&notrack, &seen.notrack) {
        (Some(wanted), ObservedNotrack::Rules(rules)) if wanted == rules => {}
        (Some(wanted), _) => plan.ops.push(RouterOp::WriteNotrack { notrack: wanted.clone() }),
        (None, ObservedNotrack::Absent) => {}
        (None, _) => plan.ops.push(RouterOp::RemoveNotrack),
    }
    for link in &attached {
        attach(link, &outlook, seen, &mut plan.ops);
    }
    // Of a link that goes, qdisc and filters go with it.
    let names: BTreeMap<u32, IfName> =
        outlook.iter().filter_map(|(name, link)| Some((link.index?, name.parse().ok()?))).collect();
    let stay: BTreeSet<u32> = attached.iter().filter_map(|link| outlook.get(link.as_str())?.index).collect();
    for (index, link) in seen.links.iter().filter(|(index, _)| !stay.contains(index)) {
        if let Some(name) = names.get(index) {
            detach(name, link, seen.ports.get(index), &mut plan.ops);
        }
    }
    // The maps go with the last pin, and what they say of other links with them.
    if attached.is_empty() {
        plan.ops.extend(seen.pinned.then_some(RouterOp::Unpin));
    } else {
        let gone = seen.ports.keys().filter(|index| !stay.contains(index));
        plan.ops.extend(gone.map(|index| RouterOp::ForgetPort { index: *index }));
        plan.ops.extend(seen.older.then_some(RouterOp::UnpinOlder));
    }
    plan
}

/// Whether a link of that name is ours, or will be made by us.
fn is_ours(want: &DesiredRouter, links: &ObservedLinks, outlook: &Outlook, name: &str) -> Option<LinkRole> {
    let role = OwnedName::recognise(name)?.role;
    match outlook.get(name)?.index {
        None => Some(role),
        Some(_) => owned(&want.known, links.get(name)?).map(|name| name.role),
    }
}

fn wanted(
    want: &DesiredRouter,
    links: &ObservedLinks,
    outlook: &Outlook,
    problems: &mut Vec<RouterProblem>,
) -> BTreeSet<IfName> {
    let routed = |role: LinkRole| matches!(role, LinkRole::Vxlan | LinkRole::Bridge | LinkRole::VethVrf);
    let names = outlook.iter().map(|(name, _)| name);
    let mut wanted: BTreeSet<IfName> = names
        .filter(|name| is_ours(want, links, outlook, name).is_some_and(routed))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in &want.interfaces {
        let above =
            |link: &Expected| link.master.as_deref().and_then(|master| outlook.get(master)).map(|link| link.shape);
        let cure = match outlook.get(name.as_str()).map(|link| (link.shape, above(link))) {
            Some((Shape::Bridge | Shape::Ethernet, None | Some(Shape::Vrf | Shape::Bridge))) => {
                wanted.insert(name.clone());
                continue;
            }
            // The filter would run before the packet is that of the bond or team.
            Some((Shape::Bridge | Shape::Ethernet, Some(_))) => "name the link that it is a part of",
            Some((Shape::Vrf, _)) => "name the interfaces that are in the VRF",
            Some((Shape::Bare, _)) => "name one whose frames have an Ethernet header",
            None => {
                "create it, or take it out of bpfInterfaces in the operator file: the router is attached when it appears"
            }
        };
        let missing = outlook.get(name.as_str()).is_none();
        let what = if missing { "is not there" } else { "cannot have the eBPF router" };
        problems.push(RouterProblem { message: format!("bpfInterfaces: link {name} {what}"), cure: cure.to_owned() });
    }
    wanted
}

/// VRFs of ours, and the VXLAN packets that carry what they send. A packet that the kernel takes through a VRF passes netfilter
/// twice, with the link and with the VRF as its interface.
fn notrack(want: &DesiredRouter, links: &ObservedLinks, outlook: &Outlook) -> Notrack {
    let tracked = |role: LinkRole| matches!(role, LinkRole::Vxlan | LinkRole::VethDefault);
    let names = outlook.iter().map(|(name, _)| name);
    let names = names.filter(|name| is_ours(want, links, outlook, name).is_some_and(|role| !tracked(role)));
    Notrack { links: names.filter_map(|name| name.parse().ok()).collect(), vtep: want.vtep }
}

fn attach(link: &IfName, outlook: &Outlook, seen: &ObservedRouter, ops: &mut Vec<RouterOp>) {
    let (looks_from, in_vrf) = outlook.looks_from(link.as_str());
    let index = |name: &str| outlook.get(name).and_then(|link| link.index);
    let there = index(link.as_str()).and_then(|index| seen.links.get(&index));
    let known = index(link.as_str()).and_then(|index| seen.ports.get(&index));
    let own_qdisc = there.is_none() || known.is_some_and(|port| port.own_qdisc);
    let wanted = index(looks_from).map(|looks_from| Port { looks_from, in_vrf, own_qdisc });
    if (known.is_none() || known != wanted.as_ref())
        && let Ok(looks_from) = looks_from.parse()
    {
        ops.push(RouterOp::SetPort { link: link.clone(), looks_from, in_vrf, own_qdisc });
    }
    // After the port: one whose qdisc nobody knows to be ours would keep it for ever.
    if there.is_none() {
        ops.push(RouterOp::AddQdisc { link: link.clone() });
    }
    let ours = there.map(|there| there.ours.as_slice()).unwrap_or_default();
    let Some((first, more)) = ours.split_first() else {
        ops.push(RouterOp::Attach { link: link.clone() });
        return;
    };
    let SeenFilter { priority, handle, program } = *first;
    if Some(program) != seen.program {
        ops.push(RouterOp::Replace { link: link.clone(), priority, handle });
    }
    ops.extend(more.iter().map(|filter| removal(link, *filter)));
}

fn removal(link: &IfName, filter: SeenFilter) -> RouterOp {
    let SeenFilter { priority, handle, program: _ } = filter;
    RouterOp::Detach { link: link.clone(), priority, handle }
}

fn detach(link: &IfName, seen: &SeenLink, port: Option<&Port>, ops: &mut Vec<RouterOp>) {
    ops.extend(seen.ours.iter().map(|filter| removal(link, *filter)));
    if port.is_some_and(|port| port.own_qdisc) && !seen.others {
        ops.push(RouterOp::RemoveQdisc { link: link.clone() });
    }
}
