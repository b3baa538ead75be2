//! Inputs and what is seen in, the whole plan out. Pure: `plan`, `render` and `run` share it.

use std::sync::Arc;

use crate::config::OperatorConfig;
use crate::desired::{Ipv6, Judged, NodeFacts, Rejection, judge};
use crate::frr::render::{RenderError, Renderer};
use crate::frr::template::{Hint, Template, TemplateError};
use crate::link::{DesiredLinks, LinkPlan, LinkRole, ObservedLinks, UnderlayError, plan};
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

/// Plans a run.
///
/// # Errors
/// Faults of the node or the template; faults of objects are rejections, and the others stand.
pub fn prepare(inputs: &Inputs, seen: &ObservedLinks, renderer: &Renderer) -> Result<Prepared, PrepareError> {
    let Inputs { objects, config, template, hostname } = inputs;
    let underlay = seen.underlay(&config.underlay_interface)?;
    let facts = NodeFacts { hostname: hostname.clone(), underlay_ip: underlay.ip };
    let template = Template::parse(template)?;
    let mut judged = verdict(objects, config, &template);
    let links = plan(&DesiredLinks::new(&judged.desired, config, underlay), seen);
    // A VRF whose links cannot be made must not take its VNI from whoever has it: it is left with its policies.
    for vrf in &mut judged.desired.vrfs {
        if links.problems.iter().any(|problem| problem.vrf == vrf.name) {
            vrf.overlay = None;
        }
    }
    let text = renderer.render(&template, &judged.desired, config, &facts)?;
    let Judged { desired, rejections } = judged;
    let vnis = desired.overlays().map(|(vrf, overlay)| (LinkRole::Vrf.name(&vrf.name).to_string(), overlay.vni.get()));
    Ok(Prepared { text, links, vnis: vnis.collect(), rejections })
}

/// All objects, readable or not, judged.
fn verdict(objects: &Objects, config: &OperatorConfig, template: &Template) -> Judged {
    let ipv6 = if template.has(Hint::NeighborsV6) { Ipv6::HasPlace } else { Ipv6::HasNone };
    let mut judged = judge(objects.objects.iter().map(AsRef::as_ref), config, ipv6);
    judged.rejections.extend(objects.unreadable.iter().cloned());
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
    let judged = verdict(objects, config, &template);
    let text = renderer.render(&template, &judged.desired, config, facts)?;
    Ok((judged, text))
}
