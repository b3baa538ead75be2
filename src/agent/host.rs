//! The host behind the pipeline's ports: adapters, in the pipeline's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::frr::check;
use crate::frr::command::Verdict;
use crate::frr::config::{Config, Line};
use crate::frr::converge;
use crate::frr::files::FrrFiles;
use crate::frr::running;
use crate::frr::service::{FrrService, ServiceError};
use crate::frr::vty::Vty;
use crate::link::netlink::Netlink;
use crate::link::{LinkOp, ObservedLinks};
use crate::metrics::Measured;
use crate::reconcile::{ConfigPort, DaemonPort, LinkPort, Pipeline, PortError, ServicePort, VniState};
use crate::state::Store;

/// The host, as the agent drives it.
pub(super) type HostPipeline = Pipeline<Measured<Netlink>, Measured<HostConfig>, Measured<FrrService>, Measured<Vty>>;

impl LinkPort for Netlink {
    async fn observe(&self) -> Result<ObservedLinks, PortError> {
        Ok(Netlink::observe(self).await?)
    }

    async fn may_write(&self) -> Result<(), PortError> {
        Ok(Netlink::may_write(self).await?)
    }

    async fn apply(&self, ops: &[LinkOp]) -> Result<(), PortError> {
        for op in ops {
            tracing::debug!(%op, "link");
        }
        Ok(Netlink::apply(self, ops).await?)
    }
}

/// frr.conf, and what is kept of it beside the agent.
pub(super) struct HostConfig {
    pub(super) files: FrrFiles,
    pub(super) store: Arc<Store>,
}

impl ConfigPort for HostConfig {
    fn read(&self) -> Result<Option<String>, PortError> {
        Ok(self.files.read_conf()?)
    }

    async fn stage(&self, text: &str) -> Result<Vec<String>, PortError> {
        let lines = check::refused_lines(self.files.stage(text)?).await?.into_iter();
        Ok(lines.map(|line| format!("line {}: `{}`: {}", line.number, line.text, line.words)).collect())
    }

    fn discard(&self) {
        self.files.discard();
    }

    fn commit(&self) -> Result<(), PortError> {
        Ok(self.files.commit()?)
    }

    fn restore(&self, text: &str) -> Result<(), PortError> {
        self.files.stage(text)?;
        Ok(self.files.commit()?)
    }

    fn last_good(&self) -> Result<Option<String>, PortError> {
        Ok(self.store.last_good()?)
    }

    fn keep_good(&self, text: &str) -> Result<(), PortError> {
        Ok(self.store.keep_last_good(text)?)
    }
}

impl ServicePort for FrrService {
    async fn running(&self) -> Result<bool, PortError> {
        Ok(FrrService::running(self).await?)
    }

    async fn reload(&self) -> Result<(), PortError> {
        Ok(FrrService::reload(self).await?)
    }

    fn was_tried(&self, error: &PortError) -> bool {
        error.downcast_ref().is_some_and(ServiceError::was_tried)
    }

    async fn start(&self) -> Result<(), PortError> {
        Ok(FrrService::start(self).await?)
    }

    async fn restart(&self) -> Result<(), PortError> {
        Ok(FrrService::restart(self).await?)
    }
}

impl DaemonPort for Vty {
    async fn running(&self) -> Result<Config, PortError> {
        Ok(converge::running(self).await?)
    }

    async fn fingerprint(&self) -> Result<u64, PortError> {
        Ok(converge::fingerprint(self).await?)
    }

    async fn give(&self, lines: &[Line]) -> Result<Vec<Verdict>, PortError> {
        Ok(converge::give(self, lines).await?)
    }

    async fn take(&self, lines: &[Line]) -> Result<(), PortError> {
        converge::take(self, lines).await?;
        Ok(())
    }

    async fn vnis(&self) -> Result<BTreeMap<String, VniState>, PortError> {
        let vnis = running::vrf_vnis(self).await?.into_iter();
        let state = |vrf: running::VrfVni| VniState { vni: vrf.vni, up: vrf.state == "Up", vxlan: vrf.has_vxlan() };
        Ok(vnis.map(|(name, vrf)| (name, state(vrf))).collect())
    }

    async fn next_hops(&self) -> Result<BTreeMap<u32, usize>, PortError> {
        Ok(running::next_hops(self).await?)
    }

    async fn addressed(&self, neighbor: &str) -> Result<bool, PortError> {
        Ok(running::addressed(self, neighbor).await?)
    }

    async fn loses_neighbors(&self) -> Result<bool, PortError> {
        let version = running::version(self).await?;
        let major: Option<u32> = version.and_then(|version| version.split('.').next()?.parse().ok());
        Ok(major.is_some_and(|major| major < 10))
    }

    async fn forget_vrfs(&self, vrfs: &[String]) -> Result<BTreeMap<String, String>, PortError> {
        Ok(running::forget_vrfs(self, vrfs).await?)
    }
}
