//! One run: from the inputs to a node that is as they say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::configure::Configured;
use super::error::{Missing, RunError, step};
use super::glance::Standing;
use super::steps::Steps;
use super::{ConfigPort, DaemonPort, Inputs, LinkPort, Outcome, Ports, Prepared, ServicePort, prepare};
use crate::frr::config::Config;
use crate::frr::render::Renderer;
use crate::link::{LinkPlan, LinkRole, OwnedName};

/// How long the conditions between the steps may take to come true.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// FRR's daemons answer while frr.service is active: watchfrr brings back one that died.
    pub answers: Duration,
    /// FRR has seen that links went, or go: it is no harm if it has not. Also how long next hops must stay the same to be taken for ones
    /// that stay.
    pub unplugged: Duration,
    /// zebra has no next hops of EVPN any more where a VXLAN goes.
    pub drained: Duration,
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
        Self {
            answers: limit,
            unplugged: Duration::from_secs(15),
            drained: Duration::from_secs(120),
            mapped: limit,
            up: limit,
            forgotten: limit,
        }
    }
}

/// How long to leave FRR alone between two questions: it tells nobody when something changes.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Asks until the answer is good or the limit has passed; gives the last answer.
pub(super) async fn until<T>(
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, RunError>,
    good: impl Fn(&T) -> bool,
) -> Result<T, RunError> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask().await?;
        if good(&answer) || Instant::now() >= end {
            return Ok(answer);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// The pipeline of one node, and what it must remember between runs.
#[derive(Debug)]
pub struct Pipeline<L, C, S, D> {
    pub(super) ports: Ports<L, C, S, D>,
    renderer: Renderer,
    pub(super) limits: Limits,
    /// Lines of frr.conf that FRR does not show, and need not.
    pub(super) tolerated: BTreeSet<String>,
    /// The text that FRR was given lines of last.
    pub(super) offered: Option<String>,
    /// Whether a reload of ours has stopped FRR, and it could not be started since.
    pub(super) stopped: bool,
    /// Whether FRR was seen to run what the last run was for.
    verified: bool,
    /// As what the node was found where nothing was to be done.
    pub(super) standing: Option<Standing>,
    /// Who is told how long its steps take.
    pub(super) steps: Steps,
}

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// A pipeline that has not run yet. `tolerated` is what [`Pipeline::tolerated`] gave when it last ran, `offered` the text that
    /// an agent before was killed with.
    pub fn new(
        ports: Ports<L, C, S, D>,
        renderer: Renderer,
        limits: Limits,
        tolerated: BTreeSet<String>,
        offered: Option<String>,
    ) -> Self {
        let steps = Steps::default();
        Self { ports, renderer, limits, tolerated, offered, stopped: false, verified: false, standing: None, steps }
    }

    /// The same, which tells how long its steps take.
    #[must_use]
    pub fn timed_by(self, steps: Steps) -> Self {
        Self { steps, ..self }
    }

    /// Lines of frr.conf that FRR takes and does not show, as defaults, or that it never took: to be kept over restarts, so
    /// that nobody asks again.
    pub fn tolerated(&self) -> &BTreeSet<String> {
        &self.tolerated
    }

    /// Whether FRR was seen to run what the last run was for, whatever became of its links.
    pub fn verified(&self) -> bool {
        self.verified
    }

    /// Looks at the node, and plans what the inputs ask for. Changes nothing.
    ///
    /// # Errors
    /// The links cannot be read, or nothing can be planned.
    pub async fn prepare(&self, inputs: &Inputs) -> Result<Prepared, RunError> {
        let seen = self.ports.links.observe().await.map_err(step("read the links"))?;
        let applied = self.ports.config.last_good().map_err(step("read the last good configuration"))?;
        let rendered = async { prepare(inputs, &seen, &self.renderer, &applied.unwrap_or_default()) };
        Ok(self.steps.timed("render", rendered).await?)
    }

    /// Brings the node to what was planned. Where it is so already, nothing is written and nothing reloaded.
    ///
    /// # Errors
    /// The first step that fails. Every step can be repeated, and the next run begins with what it finds.
    pub async fn carry_out(&mut self, prepared: &Prepared) -> Result<Outcome, RunError> {
        let Prepared { text, links, vnis, standing, .. } = prepared;
        // Links of a VRF must not go before its instance.
        let leaving = !links.remove.is_empty();
        let (mut unplug, rest) = links.unplug();
        (self.verified, self.standing) = (false, None);
        let configured = self.configure(prepared, leaving, &mut unplug).await?;
        // Also where links or VNIs do not come up: FRR runs it, and what is missing would be missing with another one, too.
        self.verified = true;
        self.ports.config.keep_good(text).map_err(step("keep the configuration to go back to"))?;
        self.apply(&rest, vnis).await?;
        self.forget(&configured.meant, &configured.seen, standing).await?;
        let troubled =
            |vrf: &str| links.problems.iter().any(|problem| LinkRole::Vrf.name(&problem.vrf).as_str() == vrf);
        let able: Vec<(String, u32)> = vnis.iter().filter(|(vrf, _)| !troubled(vrf)).cloned().collect();
        self.steps.timed("wait", self.wait_up(&able)).await?;
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
            self.steps.timed("wait", self.wait_mapped(vnis)).await?;
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
        if vrfs.is_empty() {
            return Ok(());
        }
        let limit = self.limits.forgotten;
        let ask = async || {
            let left = self.ports.daemons.forget_vrfs(&vrfs).await.map_err(step("remove VRF stanzas from FRR"))?;
            vrfs.retain(|vrf| left.contains_key(vrf));
            Ok(left)
        };
        let left = until(limit, ask, BTreeMap::is_empty).await?;
        if left.is_empty() { Ok(()) } else { Err(RunError::NotForgotten { left, limit }) }
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
    ) -> Result<Missing, RunError> {
        until(limit, async || self.missing(vnis, good).await, Missing::is_empty).await
    }

    pub(super) async fn missing(
        &self,
        vnis: &[(String, u32)],
        good: impl Fn(bool) -> bool,
    ) -> Result<Missing, RunError> {
        if vnis.is_empty() {
            return Ok(Missing::default());
        }
        let seen = self.ports.daemons.vnis().await.map_err(step("ask zebra for its VNIs"))?;
        let there =
            |(vrf, vni): &&(String, u32)| seen.get(vrf).is_some_and(|state| state.vni == *vni && good(state.up));
        Ok(Missing(vnis.iter().filter(|pair| !there(pair)).cloned().collect()))
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
    let vrfs = prepared.vnis.len();
    Outcome { written, reloaded, frr_lines, link_operations, router_operations: 0, vrfs, what }
}
