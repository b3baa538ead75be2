//! One run: from the inputs to a node that is as they say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::configure::Configured;
use super::error::{RunError, step};
use super::{ConfigPort, DaemonPort, Inputs, LinkPort, Outcome, Ports, Prepared, ServicePort, prepare};
use crate::frr::config::Config;
use crate::frr::render::Renderer;
use crate::link::{LinkOp, LinkPlan, LinkRole, OwnedName};

/// How long the conditions between the steps may take to come true.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// FRR's daemons answer while frr.service is active: watchfrr brings back one that died.
    pub answers: Duration,
    /// FRR has seen that links which go are out of service; it is no harm if it has not.
    pub unplugged: Duration,
    /// zebra knows the VNIs of the new configuration.
    pub mapped: Duration,
    /// zebra calls the L3 VNIs up.
    pub up: Duration,
    /// FRR has let go of VRFs whose devices are gone.
    pub forgotten: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let limit = Duration::from_secs(30);
        Self { answers: limit, unplugged: Duration::from_secs(5), mapped: limit, up: limit, forgotten: limit }
    }
}

/// How long to leave FRR alone between two questions: it tells nobody when something changes.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The pipeline of one node, and what it must remember between runs.
#[derive(Debug)]
pub struct Pipeline<L, C, S, D> {
    pub(super) ports: Ports<L, C, S, D>,
    renderer: Renderer,
    pub(super) limits: Limits,
    /// Lines of frr.conf that FRR does not show, and need not.
    pub(super) tolerated: BTreeSet<String>,
}

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// A pipeline that has not run yet. `tolerated` is what [`Pipeline::tolerated`] gave when it last ran.
    pub fn new(ports: Ports<L, C, S, D>, renderer: Renderer, limits: Limits, tolerated: BTreeSet<String>) -> Self {
        Self { ports, renderer, limits, tolerated }
    }

    /// Lines of frr.conf that FRR takes and does not show, as defaults, or that it never took: to be kept over restarts, so
    /// that nobody asks again.
    pub fn tolerated(&self) -> &BTreeSet<String> {
        &self.tolerated
    }

    /// Looks at the node, and plans what the inputs ask for. Changes nothing.
    ///
    /// # Errors
    /// The links cannot be read, or nothing can be planned.
    pub async fn prepare(&self, inputs: &Inputs) -> Result<Prepared, RunError> {
        let seen = self.ports.links.observe().await.map_err(step("read the links"))?;
        let applied = self.ports.config.last_good().map_err(step("read the last good configuration"))?;
        Ok(prepare(inputs, &seen, &self.renderer, &applied.unwrap_or_default())?)
    }

    /// Brings the node to what was planned. Where it is so already, nothing is written and nothing reloaded.
    ///
    /// # Errors
    /// The first step that fails. Every step can be repeated, and the next run begins with what it finds.
    pub async fn carry_out(&mut self, prepared: &Prepared) -> Result<Outcome, RunError> {
        let Prepared { text, links, vnis, standing, .. } = prepared;
        // Links of a VRF must not go before its instance.
        let leaving = links.remove.iter().any(is_ours);
        let (mut unplug, rest) = links.unplug();
        let configured = self.configure(prepared, leaving, &mut unplug).await?;
        self.apply(&rest, vnis).await?;
        self.forget(&configured.meant, &configured.seen, standing).await?;
        let troubled =
            |vrf: &str| links.problems.iter().any(|problem| LinkRole::Vrf.name(&problem.vrf).as_str() == vrf);
        let able: Vec<(String, u32)> = vnis.iter().filter(|(vrf, _)| !troubled(vrf)).cloned().collect();
        self.wait_up(&able).await?;
        self.ports.config.keep_good(text).map_err(step("keep the configuration to go back to"))?;
        if configured.written {
            let names: BTreeSet<String> = configured.meant.lines().iter().map(ToString::to_string).collect();
            self.tolerated.retain(|name| names.contains(name));
        }
        Ok(outcome(configured, prepared))
    }

    /// Links are made down, and come up when FRR knows whose VNI it is: otherwise it takes an L3 VNI for an L2 one.
    /// Links go after the reload: bgpd 10.3 died where they went before it.
    async fn apply(&mut self, links: &LinkPlan, vnis: &[(String, u32)]) -> Result<(), RunError> {
        let LinkPlan { create, activate, remove, problems: _ } = links;
        if !create.is_empty() || !activate.is_empty() {
            self.ports.links.apply(create).await.map_err(step("make links"))?;
            self.wait_mapped(vnis).await?;
            self.ports.links.apply(activate).await.map_err(step("set links up"))?;
        }
        self.ports.links.apply(remove).await.map_err(step("delete links"))
    }

    /// Removes the stanzas of VRFs of ours whose devices are gone. FRR lets go of a VRF once the kernel has told it that the
    /// device is gone; no reload removes the stanza (FRR #21245).
    pub(super) async fn forget(
        &mut self,
        config: &Config,
        seen: &Config,
        standing: &BTreeSet<String>,
    ) -> Result<(), RunError> {
        let stays = |vrf: &str| config.vrf_stanzas().contains(vrf) || standing.contains(vrf);
        let ours = |vrf: &str| OwnedName::recognise(vrf).is_some_and(|name| name.role == LinkRole::Vrf);
        let mut vrfs: Vec<String> =
            seen.vrf_stanzas().into_iter().filter(|vrf| ours(vrf) && !stays(vrf)).map(str::to_owned).collect();
        let limit = self.limits.forgotten;
        let end = Instant::now() + limit;
        while !vrfs.is_empty() {
            let left: BTreeMap<String, String> =
                self.ports.daemons.forget_vrfs(&vrfs).await.map_err(step("remove VRF stanzas from FRR"))?;
            vrfs.retain(|vrf| left.contains_key(vrf));
            if !vrfs.is_empty() {
                if Instant::now() >= end {
                    return Err(RunError::NotForgotten { left, limit });
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// Carries out the first operations on links that go, once, and waits until FRR has seen it. See [`LinkPlan::unplug`].
    ///
    /// bgpd 8.4.4 keeps unnumbered neighbors in a hash by their address. Of several that are new at once and have none yet, some
    /// stay in it without one when they learn theirs; deleted like that, they are freed and stay in it for the next new one
    /// to be compared with (SIGSEGV in `bgp_peer_conf_if_to_su_update`). One that has lost its address again is found.
    pub(super) async fn unplug(&self, ops: &mut Vec<LinkOp>) -> Result<(), RunError> {
        let ops = std::mem::take(ops);
        if ops.is_empty() {
            return Ok(());
        }
        self.ports.links.apply(&ops).await.map_err(step("take links that go out of service"))?;
        let named = |role: LinkRole, from: LinkRole| -> Vec<String> {
            let names = ops.iter().filter_map(|op| match op {
                LinkOp::Delete { name } | LinkOp::SetDown { name } => OwnedName::recognise(name.as_str()),
                _ => None,
            });
            names.filter(|name| name.role == from).map(|name| role.name(&name.vrf).to_string()).collect()
        };
        let vrfs = named(LinkRole::Vrf, LinkRole::Vxlan);
        let neighbors = named(LinkRole::VethDefault, LinkRole::VethVrf);
        let end = Instant::now() + self.limits.unplugged;
        loop {
            let vnis = self.ports.daemons.vnis().await.map_err(step("ask zebra for its VNIs"))?;
            let up = vrfs.iter().any(|vrf| vnis.get(vrf).is_some_and(|vni| vni.up));
            let addressed = self.ports.daemons.addressed(&neighbors).await;
            let addressed = addressed.map_err(step("ask bgpd for its neighbors"))?;
            if !up && addressed.is_empty() || Instant::now() >= end {
                return Ok(());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn wait_mapped(&self, vnis: &[(String, u32)]) -> Result<(), RunError> {
        let limit = self.limits.mapped;
        let missing = self.wait(vnis, |_| true, limit).await?;
        if missing.is_empty() { Ok(()) } else { Err(RunError::NotMapped { missing, limit }) }
    }

    async fn wait_up(&self, vnis: &[(String, u32)]) -> Result<(), RunError> {
        let limit = self.limits.up;
        let missing = self.wait(vnis, |up| up, limit).await?;
        if missing.is_empty() { Ok(()) } else { Err(RunError::NotUp { missing, limit }) }
    }

    /// Asks zebra until nothing is missing, or the limit has passed; gives what is.
    async fn wait(
        &self,
        vnis: &[(String, u32)],
        good: impl Fn(bool) -> bool + Copy,
        limit: Duration,
    ) -> Result<String, RunError> {
        let end = Instant::now() + limit;
        loop {
            let missing = self.missing(vnis, good).await?;
            if missing.is_empty() || Instant::now() >= end {
                return Ok(missing);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    pub(super) async fn missing(
        &self,
        vnis: &[(String, u32)],
        good: impl Fn(bool) -> bool,
    ) -> Result<String, RunError> {
        if vnis.is_empty() {
            return Ok(String::new());
        }
        let seen = self.ports.daemons.vnis().await.map_err(step("ask zebra for its VNIs"))?;
        let there =
            |(vrf, vni): &&(String, u32)| seen.get(vrf).is_some_and(|state| state.vni == *vni && good(state.up));
        let missing = vnis.iter().filter(|pair| !there(pair)).map(|(vrf, vni)| format!("{vrf} (VNI {vni})"));
        Ok(missing.collect::<Vec<_>>().join(", "))
    }
}

fn outcome(configured: Configured, prepared: &Prepared) -> Outcome {
    let Configured { written, reloaded, lines, .. } = configured;
    let mut what: Vec<String> = Vec::new();
    what.extend(written.then(|| "frr.conf".to_owned()));
    what.extend(lines.missing.iter().map(|line| format!("given to FRR: {line}")));
    what.extend(lines.extra.iter().map(|line| format!("taken out of FRR: {line}")));
    what.extend(prepared.links.ops().map(ToString::to_string));
    let (frr_lines, link_operations) = (lines.missing.len() + lines.extra.len(), prepared.links.ops().count());
    Outcome { written, reloaded, frr_lines, link_operations, vrfs: prepared.vnis.len(), what }
}

fn is_ours(op: &LinkOp) -> bool {
    matches!(op, LinkOp::Delete { name } if OwnedName::recognise(name.as_str()).is_some())
}
