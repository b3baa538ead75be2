//! Judges each object alone, then against the older ones.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{DesiredState, Overlay, Rejection, RejectionReason, RoutePolicy, Vrf};
use crate::api::{RouteAction, RouteItem, VrfRouteConfiguration, VrfRouteConfigurationSpec};
use crate::config::OperatorConfig;
use crate::model::{Action, Community, Mtu, PrefixRule, PrefixRuleError, Seq, VrfName};

/// The verdict on all objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// What the accepted ones ask for together.
    pub desired: DesiredState,
    /// The others, sorted by name.
    pub rejections: Vec<Rejection>,
}

/// One object, parsed.
struct Parsed {
    vrf: VrfName,
    mtu: Mtu,
    aggregates: BTreeSet<IpNet>,
    policy: RoutePolicy,
}

/// A rejection that does not know its object yet.
struct Fault {
    field: String,
    reason: RejectionReason,
    message: String,
    cure: String,
}

impl Fault {
    fn new(field: impl Into<String>, reason: RejectionReason, message: impl ToString, cure: impl Into<String>) -> Self {
        Self { field: field.into(), reason, message: message.to_string(), cure: cure.into() }
    }

    fn value(field: impl Into<String>, message: impl ToString, cure: impl Into<String>) -> Self {
        Self::new(field, RejectionReason::InvalidValue, message, cure)
    }

    fn of(self, object: &str) -> Rejection {
        let Self { field, reason, message, cure } = self;
        Rejection { object: object.to_owned(), field, reason, message, cure }
    }
}

/// Whether the template has a place for the neighbors that carry IPv6 routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// It has the hint `NeighborsV6`.
    HasPlace,
    /// It has not.
    HasNone,
}

/// Puts the good objects together and says why the bad ones are left out.
///
/// Between two objects that contradict each other the older one stands (creation time, then name), so that every
/// node comes to the same verdict and a new object never takes down what an old one carries.
pub fn judge<'a>(
    objects: impl IntoIterator<Item = &'a VrfRouteConfiguration>,
    config: &OperatorConfig,
    ipv6: Ipv6,
) -> Judged {
    let mut by_age: Vec<_> = objects.into_iter().collect();
    by_age.sort_by_key(|object| (age(object), name(object)));
    let mut vrfs: BTreeMap<VrfName, (Mtu, Vrf)> = BTreeMap::new();
    let (mut rejections, mut rejected) = (Vec::new(), Vec::new());
    for object in by_age {
        let parsed = parse(&object.spec, config).and_then(|parsed| ipv6_has_place(parsed, config, ipv6));
        let accepted = parsed.and_then(|parsed| join(&mut vrfs, parsed, config));
        if let Err(fault) = accepted {
            rejections.push(fault.of(name(object)));
            rejected.extend(object.spec.vrf.parse::<VrfName>().ok().filter(|vrf| known(vrf, config).is_ok()));
        }
    }
    rejections.sort_by(|a, b| a.object.cmp(&b.object));
    // FRR permits everything where a site's template calls a map that is gone: maps that deny all stay for these.
    for name in rejected {
        let bare = Vrf { name: name.clone(), overlay: None, aggregates: BTreeSet::new(), policies: Vec::new() };
        vrfs.entry(name).or_insert_with(|| (Mtu::default(), bare));
    }
    let mut vrfs: Vec<Vrf> = vrfs.into_values().map(|(_, vrf)| vrf).collect();
    for vrf in &mut vrfs {
        vrf.policies.sort_by_key(|policy| policy.seq);
    }
    // The map was sorted by name, and this sort keeps that order among equals.
    vrfs.sort_by_key(|vrf| vrf.overlay.as_ref().map_or(u32::MAX, |overlay| overlay.vni.get()));
    Judged { desired: DesiredState { vrfs }, rejections }
}

fn name(object: &VrfRouteConfiguration) -> &str {
    object.metadata.name.as_deref().unwrap_or("(without a name)")
}

/// An object without a creation time comes from a file: it counts as the oldest, so that its name decides.
fn age(object: &VrfRouteConfiguration) -> Option<jiff::Timestamp> {
    object.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn parse(spec: &VrfRouteConfigurationSpec, config: &OperatorConfig) -> Result<Parsed, Fault> {
    let VrfRouteConfigurationSpec { vrf, import, export, aggregate, seq, mtu, community } = spec;
    let vrf: VrfName = vrf.parse().map_err(|e| Fault::value("spec.vrf", e, "give the VRF a name of that form"))?;
    known(&vrf, config)?;
    let seq = Seq::try_from(*seq).map_err(|e| Fault::value("spec.seq", e, "give the object a number in that range"))?;
    let mtu = Mtu::try_from(*mtu).map_err(|e| Fault::value("spec.mtu", e, "use the MTU of the VRF's network"))?;
    let community = community.as_deref().map(str::parse::<Community>).transpose();
    let community =
        community.map_err(|e| Fault::value("spec.community", e, "write it as in \"65000:100 65000:200\""))?;
    let policy =
        RoutePolicy { seq, import: rules("spec.import", import)?, export: rules("spec.export", export)?, community };
    let aggregates = aggregates(aggregate)?;
    Ok(Parsed { vrf, mtu, aggregates, policy })
}

/// A skipped VRF has IPv6 text in the default instance only where it aggregates.
fn ipv6_has_place(parsed: Parsed, config: &OperatorConfig, ipv6: Ipv6) -> Result<Parsed, Fault> {
    if ipv6 == Ipv6::HasPlace {
        return Ok(parsed);
    }
    let Parsed { vrf, mtu: _, aggregates, policy } = &parsed;
    let of_list = |name: &str, list: &[PrefixRule]| {
        let skipped = config.skip_vrfs.contains(vrf);
        let found = list.iter().find(|rule| rule.is_ipv6() && !skipped);
        found.map(|rule| (format!("spec.{name}"), rule.prefix()))
    };
    let aggregate = aggregates.iter().find(|net| matches!(net, IpNet::V6(_)));
    let found = of_list("import", &policy.import).or_else(|| of_list("export", &policy.export));
    let Some((field, net)) = found.or_else(|| aggregate.map(|net| ("spec.aggregate".to_owned(), *net))) else {
        return Ok(parsed);
    };
    let message = format!("{net} is IPv6, and the template of this node has no hint {{{{.NeighborsV6}}}}");
    let cure = "put the line `#++{{.NeighborsV6}}` in `address-family ipv6 unicast` of the default VRF's `router bgp`";
    Err(Fault::new(field, RejectionReason::NoIpv6Hint, message, cure))
}

fn known(vrf: &VrfName, config: &OperatorConfig) -> Result<(), Fault> {
    if config.vrfs.contains_key(vrf) || config.skip_vrfs.contains(vrf) {
        return Ok(());
    }
    if let Some(refused) = config.refused.get(vrf) {
        let message =
            format!("the operator file's entry for VRF {vrf} cannot be used: {}: {}", refused.field, refused.reason);
        return Err(Fault::new(
            "spec.vrf",
            RejectionReason::RefusedVrf,
            message,
            "correct that entry of the operator file",
        ));
    }
    Err(Fault::new(
        "spec.vrf",
        RejectionReason::UnknownVrf,
        format!("the operator file of this node has no VRF {vrf}"),
        "add it to vnimap, vrfConfig or skipVRFConfig there, or correct the name",
    ))
}

fn aggregates(texts: &[String]) -> Result<BTreeSet<IpNet>, Fault> {
    let mut nets = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        let field = || format!("spec.aggregate[{index}]");
        let net = network(field, text)?;
        if net.trunc() != net {
            let message = PrefixRuleError::HostBits { prefix: net, network: net.trunc() };
            return Err(Fault::value(field(), message, format!("write {}", net.trunc())));
        }
        nets.insert(net);
    }
    Ok(nets)
}

fn network(field: impl FnOnce() -> String, text: &str) -> Result<IpNet, Fault> {
    text.parse().map_err(|_| {
        let message = format!("{text:?} is not a network in CIDR notation");
        Fault::value(field(), message, "write it as in 203.0.113.0/24 or 2001:db8::/32")
    })
}

fn rules(list: &str, items: &[RouteItem]) -> Result<Vec<PrefixRule>, Fault> {
    let mut rules: Vec<PrefixRule> = Vec::with_capacity(items.len());
    let mut seqs = BTreeMap::new();
    let mut matches = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = |field: &str| format!("{list}[{index}].{field}");
        let rule = rule(place, index, item)?;
        if let Some(first) = seqs.insert(rule.seq(), index) {
            let message = format!("seq {} already belongs to {list}[{first}]", rule.seq());
            let cure = "give each item its own number, or leave seq out of all of them";
            return Err(Fault::new(place("seq"), RejectionReason::DuplicateItem, message, cure));
        }
        // The first of two that say the same counts, and FRR keeps no second one.
        if matches.insert((rule.prefix(), item.ge, item.le, rule.action())) {
            rules.push(rule);
        }
    }
    rules.sort_by_key(PrefixRule::seq);
    Ok(rules)
}

/// The item at `index`; `place` names a field of it.
fn rule(place: impl Fn(&str) -> String, index: usize, item: &RouteItem) -> Result<PrefixRule, Fault> {
    let RouteItem { cidr, seq, ge, le, action } = item;
    let prefix = network(|| place("cidr"), cidr)?;
    let action = match action {
        RouteAction::Permit => Action::Permit,
        RouteAction::Deny => Action::Deny,
    };
    let position = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
    PrefixRule::new(seq.unwrap_or(position), action, prefix, *ge, *le).map_err(|error| {
        let (field, cure) = match &error {
            PrefixRuleError::HostBits { network, .. } => ("cidr", format!("write {network}")),
            PrefixRuleError::Ge { len, max, .. } => ("ge", range(*len, *max)),
            PrefixRuleError::Le { len, max, .. } => ("le", range(*len, *max)),
            PrefixRuleError::GeAboveLe { .. } => ("ge", "swap them, or leave one out".to_owned()),
            PrefixRuleError::Seq(_) => ("seq", "use a number in that range, or leave it out".to_owned()),
        };
        Fault::value(place(field), error, cure)
    })
}

fn range(len: u8, max: u8) -> String {
    format!("use {} to {max}, or leave it out", len.max(1))
}

/// Adds an object to its VRF, unless an older one stands against it.
fn join(vrfs: &mut BTreeMap<VrfName, (Mtu, Vrf)>, parsed: Parsed, config: &OperatorConfig) -> Result<(), Fault> {
    let Parsed { vrf: name, mtu, aggregates, policy } = parsed;
    for net in &aggregates {
        let owner =
            vrfs.values().find(|(_, vrf)| vrf.aggregates.contains(net) && same_instance(&vrf.name, &name, config));
        if let Some((_, owner)) = owner {
            let message = format!("an older object of VRF {} already aggregates {net}", owner.name);
            let cure = "remove it from one of the two";
            return Err(Fault::new("spec.aggregate", RejectionReason::DuplicateAggregate, message, cure));
        }
    }
    if let Some((first, vrf)) = vrfs.get(&name) {
        if vrf.policies.iter().any(|other| other.seq == policy.seq) {
            let message = format!("an older object of VRF {name} has seq {} too", policy.seq);
            let cure = "give each object of a VRF its own number";
            return Err(Fault::new("spec.seq", RejectionReason::DuplicateSeq, message, cure));
        }
        if *first != mtu {
            let message = format!("{mtu} differs from the {first} of an older object of VRF {name}");
            return Err(Fault::new(
                "spec.mtu",
                RejectionReason::ConflictingMtu,
                message,
                "use one MTU in all objects of a VRF",
            ));
        }
    }
    let (_, vrf) = vrfs.entry(name.clone()).or_insert_with(|| (mtu, empty(name, mtu, config)));
    vrf.aggregates.extend(aggregates);
    vrf.policies.push(policy);
    Ok(())
}

/// Skipped VRFs share the default instance; every other VRF has one of its own.
fn same_instance(a: &VrfName, b: &VrfName, config: &OperatorConfig) -> bool {
    a == b || (config.skip_vrfs.contains(a) && config.skip_vrfs.contains(b))
}

fn empty(name: VrfName, mtu: Mtu, config: &OperatorConfig) -> Vrf {
    let overlay = if config.skip_vrfs.contains(&name) { None } else { config.vrfs.get(&name) };
    let overlay = overlay.map(|vrf| Overlay { vni: vrf.vni, route_target: vrf.route_target.clone(), mtu });
    Vrf { name, overlay, aggregates: BTreeSet::new(), policies: Vec::new() }
}
