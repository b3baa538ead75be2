//! One run: from the inputs to a node that is as they say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::port::PortError;
use super::{ConfigPort, DaemonPort, Inputs, LinkPort, Outcome, Ports, PrepareError, Prepared, ServicePort, prepare};
use crate::frr::render::Renderer;
use crate::link::{LinkOp, LinkPlan, LinkRole, OwnedName};

/// How long the conditions between the steps may take to come true.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
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
        Self { mapped: limit, up: limit, forgotten: limit }
    }
}

/// How long to leave zebra alone between two questions: it tells nobody when a VNI changes.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why a run did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing could be planned, and nothing was touched.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A step failed; the next run begins where it stopped.
    #[error("{step}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// What happened.
        #[source]
        source: PortError,
    },
    /// FRR does not take the new configuration.
    #[error("FRR refuses the new configuration, so frr.conf stays as it is; {}: correct the template, the section templates or `replacements`", lines.join("; "))]
    Refused {
        /// FRR's words to each line.
        lines: Vec<String>,
    },
    /// zebra does not know a VNI that the configuration gives it.
    #[error("FRR has not mapped {missing} after {}s: is the line in frr.conf, and what does `vtysh -c 'show vrf vni'` say?", limit.as_secs())]
    NotMapped {
        /// The VRFs and VNIs.
        missing: String,
        /// The limit.
        limit: Duration,
    },
    /// FRR keeps the stanzas of VRFs whose devices are gone.
    #[error("FRR still has the VRFs {} in its running configuration after {}s", kept(left), limit.as_secs())]
    NotForgotten {
        /// The VRFs, by interface name, and what FRR says.
        left: BTreeMap<String, String>,
        /// The limit.
        limit: Duration,
    },
    /// An L3 VNI stays down.
    #[error("the L3 VNI of {missing} is not up after {}s: see `vtysh -c 'show vrf vni'`", limit.as_secs())]
    NotUp {
        /// The VRFs and VNIs.
        missing: String,
        /// The limit.
        limit: Duration,
    },
}

fn kept(left: &BTreeMap<String, String>) -> String {
    left.iter().map(|(vrf, why)| format!("{vrf} ({why})")).collect::<Vec<_>>().join(", ")
}

fn step<E: Into<PortError>>(step: &'static str) -> impl FnOnce(E) -> RunError {
    move |source| RunError::Step { step, source: source.into() }
}

/// The pipeline of one node, and what it must remember between runs.
#[derive(Debug)]
pub struct Pipeline<L, C, S, D> {
    ports: Ports<L, C, S, D>,
    renderer: Renderer,
    limits: Limits,
    /// VRFs whose stanzas may still be in FRR's running configuration.
    forget: BTreeSet<String>,
}

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// A pipeline that has not run yet.
    pub fn new(ports: Ports<L, C, S, D>, renderer: Renderer, limits: Limits) -> Self {
        Self { ports, renderer, limits, forget: BTreeSet::new() }
    }

    /// Looks at the node, and plans what the inputs ask for. Changes nothing.
    ///
    /// # Errors
    /// The links cannot be read, or nothing can be planned.
    pub async fn prepare(&self, inputs: &Inputs) -> Result<Prepared, RunError> {
        let seen = self.ports.links.observe().await.map_err(step("read the links"))?;
        Ok(prepare(inputs, &seen, &self.renderer)?)
    }

    /// Brings the node to what was planned. Where it is so already, nothing is written and nothing reloaded.
    ///
    /// # Errors
    /// The first step that fails. Every step can be repeated, and the next run begins with what it finds.
    pub async fn carry_out(&mut self, prepared: &Prepared) -> Result<Outcome, RunError> {
        let Prepared { text, links, vnis, rejections: _ } = prepared;
        let written = self.write(text, links).await?;
        let leaving = leaving(links);
        let reloaded = self.reload(text, vnis, &leaving).await?;
        // A VRF that has come back is not to be forgotten.
        self.forget.retain(|vrf| !vnis.iter().any(|(wanted, _)| wanted == vrf));
        self.forget.extend(leaving);
        self.apply(links, vnis).await?;
        Ok(Outcome { written, reloaded, link_operations: links.ops().count(), vrfs: vnis.len() })
    }

    /// The configuration goes first: bgpd crashed where a VNI appeared before its EVPN instance (FRR #22851).
    ///
    /// A step that cannot be carried out is better known before the first one than half-way.
    async fn write(&mut self, text: &str, links: &LinkPlan) -> Result<bool, RunError> {
        let current = self.ports.config.read().map_err(step("read frr.conf"))?;
        if !links.is_empty() {
            self.ports.links.may_write().await.map_err(step("begin"))?;
        }
        if current.as_deref() == Some(text) {
            return Ok(false);
        }
        self.ports.service.running().await.map_err(step("begin"))?;
        self.stage(text).await?;
        self.ports.config.commit().map_err(step("write frr.conf"))?;
        Ok(true)
    }

    /// What FRR refuses never becomes frr.conf.
    async fn stage(&self, text: &str) -> Result<(), RunError> {
        let staged = self.ports.config.stage(text).await;
        let refused = match staged.map_err(step("check the new configuration")) {
            Ok(lines) if lines.is_empty() => return Ok(()),
            Ok(lines) => RunError::Refused { lines },
            Err(error) => error,
        };
        self.ports.config.discard();
        Err(refused)
    }

    async fn reload(
        &mut self,
        text: &str,
        vnis: &[(String, u32)],
        leaving: &BTreeSet<String>,
    ) -> Result<bool, RunError> {
        // Links of a VRF must not go before its instance; and where FRR has lost a VNI, it has lost more.
        let owed = self.ports.config.reload_owed() || !leaving.is_empty();
        if !owed && self.missing(vnis, |_| true).await?.is_empty() {
            return Ok(false);
        }
        // Where FRR does not run there is nothing to prepare: the reload says so, and FRR starts with the new text.
        if self.ports.service.running().await.map_err(step("reload FRR"))? {
            self.ports.daemons.map_vnis(vnis).await.map_err(step("give VRFs their VNIs"))?;
            self.ports.daemons.release_vrfs(text).await.map_err(step("take VRFs that go out of FRR"))?;
        }
        self.ports.service.reload().await.map_err(step("reload FRR"))?;
        self.ports.config.reloaded().map_err(step("note that FRR was reloaded"))?;
        Ok(true)
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
        self.ports.links.apply(remove).await.map_err(step("delete links"))?;
        self.forget_vrfs().await?;
        self.wait_up(vnis).await
    }

    /// FRR lets go of a VRF once the kernel has told it that the device is gone.
    async fn forget_vrfs(&mut self) -> Result<(), RunError> {
        let limit = self.limits.forgotten;
        let end = Instant::now() + limit;
        while !self.forget.is_empty() {
            let vrfs: Vec<String> = self.forget.iter().cloned().collect();
            let left = self.ports.daemons.forget_vrfs(&vrfs).await.map_err(step("remove VRF stanzas from FRR"))?;
            self.forget.retain(|vrf| left.contains_key(vrf));
            if !self.forget.is_empty() {
                if Instant::now() >= end {
                    return Err(RunError::NotForgotten { left, limit });
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        Ok(())
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

    async fn missing(&self, vnis: &[(String, u32)], good: impl Fn(bool) -> bool) -> Result<String, RunError> {
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

/// VRFs of which a link goes, by interface name.
fn leaving(links: &LinkPlan) -> BTreeSet<String> {
    let owned = links.remove.iter().filter_map(|op| match op {
        LinkOp::Delete { name } => OwnedName::recognise(name.as_str()),
        _ => None,
    });
    owned.map(|name| LinkRole::Vrf.name(&name.vrf).to_string()).collect()
}
