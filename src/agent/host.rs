//! The host behind the pipeline's ports: adapters, in the pipeline's words.

use std::collections::BTreeMap;

use crate::frr::check;
use crate::frr::files::FrrFiles;
use crate::frr::release;
use crate::frr::running;
use crate::frr::service::FrrService;
use crate::frr::vty::Vty;
use crate::link::netlink::Netlink;
use crate::link::{LinkOp, ObservedLinks};
use crate::reconcile::{ConfigPort, DaemonPort, LinkPort, Pipeline, PortError, ServicePort, VniState};

/// The host, as the agent drives it.
pub(super) type HostPipeline = Pipeline<Netlink, FrrFiles, FrrService, Vty>;

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

impl ConfigPort for FrrFiles {
    fn read(&self) -> Result<Option<String>, PortError> {
        Ok(self.read_conf()?)
    }

    async fn stage(&self, text: &str) -> Result<Vec<String>, PortError> {
        let lines = check::refused_lines(FrrFiles::stage(self, text)?).await?.into_iter();
        Ok(lines.map(|line| format!("line {}: `{}`: {}", line.number, line.text, line.words)).collect())
    }

    fn discard(&self) {
        FrrFiles::discard(self);
    }

    fn commit(&self) -> Result<(), PortError> {
        Ok(FrrFiles::commit(self)?)
    }

    fn reload_owed(&self) -> bool {
        FrrFiles::reload_owed(self)
    }

    fn reloaded(&self) -> Result<(), PortError> {
        Ok(FrrFiles::reloaded(self)?)
    }
}

impl ServicePort for FrrService {
    async fn running(&self) -> Result<bool, PortError> {
        Ok(FrrService::running(self).await?)
    }

    async fn reload(&self) -> Result<(), PortError> {
        Ok(FrrService::reload(self).await?)
    }
}

impl DaemonPort for Vty {
    async fn vnis(&self) -> Result<BTreeMap<String, VniState>, PortError> {
        let vnis = running::vrf_vnis(self).await?.into_iter();
        Ok(vnis.map(|(name, vrf)| (name, VniState { vni: vrf.vni, up: vrf.state == "Up" })).collect())
    }

    async fn map_vnis(&self, vnis: &[(String, u32)]) -> Result<(), PortError> {
        Ok(running::map_vnis(self, vnis).await?)
    }

    async fn release_vrfs(&self, text: &str) -> Result<(), PortError> {
        Ok(release::release_vrfs(self, text).await?)
    }

    async fn forget_vrfs(&self, vrfs: &[String]) -> Result<BTreeMap<String, String>, PortError> {
        Ok(running::forget_vrfs(self, vrfs).await?)
    }
}
