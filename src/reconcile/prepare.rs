//! Inputs and what is seen in, the whole plan out. Pure: `plan`, `render` and `run` share it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{OnReloadFailure, OperatorConfig};
use crate::desired::{Ipv6, Judged, NodeFacts, Rejection, judge};
use crate::frr::config::{Config, Line};
use crate::frr::render::{RenderError, Renderer};
use crate::frr::template::{Hint, Template, TemplateError};
use crate::link::{DesiredLinks, LinkOp, LinkPlan, LinkRole, ObservedLinks, OwnedName, UnderlayError, plan};
use crate::model::{Vni, VrfName};
use crate::trigger::Objects;

/// What one run goes by.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The objects.
    pub objects: Objects,
    /// The operator file.
    pub config: Arc<OperatorConfig>,
    /// Text of the template.
    pub template: String,
    /// Name of the node.
    pub hostname: String,
}

/// What is to be done on this node.
#[derive(Debug)]
pub struct Prepared {
    /// The whole frr.conf.
    pub text: String,
    /// The link operations.
    pub links: LinkPlan,
    /// VRFs that must be mapped to a VNI, by interface name.
    pub vnis: Vec<(String, u32)>,
    /// VRF devices that are there and stay, by interface name.
    pub standing: BTreeSet<String>,
    /// What to do when FRR cannot be brought back by a reload.
    pub on_reload_failure: OnReloadFailure,
    /// Objects that are left out.
    pub rejections: Vec<Rejection>,
}

/// Why nothing can be planned. Nothing on the node is touched then.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The underlay interface is missing or ambiguous.
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
    /// The template has a fault.
    #[error("template")]
    Template(#[from] TemplateError),
    /// A section could not be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Plans a run. `applied` is the configuration that the node was last brought to.
///
/// # Errors
/// Faults of the node or the template; faults of objects are rejections, and the others stand.
pub fn prepare(
    inputs: &Inputs,
    seen: &ObservedLinks,
    renderer: &Renderer,
    applied: &str,
) -> Result<Prepared, PrepareError> {
    let Inputs { objects, config, template, hostname } = inputs;
    let underlay = seen.underlay(&config.underlay_interface)?;
    let facts = NodeFacts { hostname: hostname.clone(), underlay_ip: underlay.ip };
    let template = Template::parse(template)?;
    let mut judged = verdict(objects, config, Some(&template));
    let links = plan(&DesiredLinks::new(&judged.desired, config, underlay), seen);
    // A VRF whose links cannot be made must not take its VNI from whoever has it: it is left with its policies. One that
    // runs keeps what FRR has of it: its links may be back in a moment.
    let applied = if links.problems.is_empty() { Config::default() } else { Config::parse(applied) };
    let runs = |name: &VrfName, vni: Vni| {
        let blocks = [format!("vrf {}", LinkRole::Vrf.name(name))].into();
        applied.lines().contains(&Line { blocks, text: format!("vni {vni}") })
    };
    for vrf in &mut judged.desired.vrfs {
        let problem = links.problems.iter().any(|problem| problem.vrf == vrf.name);
        if problem && vrf.overlay.as_ref().is_some_and(|overlay| !runs(&vrf.name, overlay.vni)) {
            vrf.overlay = None;
        }
    }
    let text = renderer.render(&template, &judged.desired, config, &facts)?;
    let Judged { desired, rejections } = judged;
    let vnis = desired.overlays().map(|(vrf, overlay)| (LinkRole::Vrf.name(&vrf.name).to_string(), overlay.vni.get()));
    let (standing, on_reload_failure) = (standing(seen, &links), config.on_reload_failure);
    Ok(Prepared { text, links, vnis: vnis.collect(), standing, on_reload_failure, rejections })
}

fn standing(seen: &ObservedLinks, links: &LinkPlan) -> BTreeSet<String> {
    let vrf = |name: &str| OwnedName::recognise(name).is_some_and(|owned| owned.role == LinkRole::Vrf);
    let goes =
        |name: &str| links.remove.iter().any(|op| matches!(op, LinkOp::Delete { name: gone } if gone.as_str() == name));
    let names = seen.iter().map(|link| link.name.clone());
    names.filter(|name| vrf(name) && !goes(name)).collect()
}

/// All objects, readable or not, judged. Without a template, it is taken to have a place for IPv6 neighbors.
pub fn verdict(objects: &Objects, config: &OperatorConfig, template: Option<&Template>) -> Judged {
    let has_place = template.is_none_or(|template| template.has(Hint::NeighborsV6));
    let ipv6 = if has_place { Ipv6::HasPlace } else { Ipv6::HasNone };
    let mut judged = judge(objects.objects.iter().map(AsRef::as_ref), config, ipv6);
    judged.rejections.extend(objects.unreadable.iter().map(|unreadable| unreadable.rejection.clone()));
    judged
}

/// Judges the objects and renders the text: the part that needs no node.
///
/// # Errors
/// Faults of the template.
pub fn render(
    objects: &Objects,
    config: &OperatorConfig,
    template: &str,
    facts: &NodeFacts,
    renderer: &Renderer,
) -> Result<(Judged, String), PrepareError> {
    let template = Template::parse(template)?;
    let judged = verdict(objects, config, Some(&template));
    let text = renderer.render(&template, &judged.desired, config, facts)?;
    Ok((judged, text))
}
