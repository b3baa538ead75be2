//! Takes links out of service before FRR loses the lines that they go by.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::error::{RunError, step};
use super::pipeline::{ASK_AGAIN, Pipeline, until};
use super::{ConfigPort, DaemonPort, LinkPort, ServicePort, VniState};
use crate::link::{LinkOp, LinkPlan, LinkRole};
use crate::model::VrfName;

/// What a VRF carries in the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carried {
    /// Whether its VNI is up.
    up: bool,
    next_hops: usize,
}

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// Sets the VXLANs that go down and deletes them, once; zebra is waited for each time. See [`LinkPlan::unplug`].
    ///
    /// When the last route to a next hop goes, zebra tells the kernel again of a remote router's MAC that another next hop still has, and
    /// takes it for granted that there is a VXLAN (`zl3vni_rmac_install` of 8.4 and 10.3, SIGSEGV; FRR #20494). Once it is down, all
    /// routes go.
    pub(super) async fn unplug(&self, vxlans: &mut Vec<LinkOp>) -> Result<(), RunError> {
        let vxlans = std::mem::take(vxlans);
        let vrfs: Vec<VrfName> = vxlans.iter().filter_map(|op| op.deletes(LinkRole::Vxlan)).collect();
        if vrfs.is_empty() {
            return Ok(());
        }
        let down: Vec<LinkOp> = vrfs.iter().map(|vrf| LinkOp::SetDown { name: LinkRole::Vxlan.name(vrf) }).collect();
        let devices: BTreeMap<String, VrfName> = vrfs.into_iter().map(|vrf| (device(&vrf), vrf)).collect();
        let up = self.vnis_of(|vrf, vni| devices.contains_key(vrf) && vni.up).await?;
        self.ports.links.apply(&down).await.map_err(step("set VXLANs down"))?;
        let left = self.steps.timed("wait", self.drained(&devices)).await?;
        if !left.is_empty() {
            let vrf = left.keys().filter_map(|device| devices.get(device)).map(ToString::to_string);
            let vrf = vrf.collect::<Vec<_>>().join(", ");
            tracing::warn!(%vrf, "zebra keeps next hops of EVPN in VRFs whose VXLANs are down; these are deleted all the same");
        }
        self.ports.links.apply(&vxlans).await.map_err(step("delete VXLANs"))?;
        // zebra forgets no VXLAN where EVPN is off, and no VNI is up there.
        if !up.is_empty() {
            let gone = async || Ok(self.vnis_of(|vrf, vni| up.contains_key(vrf) && vni.vxlan).await?.is_empty());
            self.steps.timed("wait", until(self.limits.unplugged, gone, |gone| *gone)).await?;
        }
        Ok(())
    }

    /// Waits until no VNI of these VRFs is up and zebra has no next hops of EVPN in them; gives the VRFs that have some when the time is
    /// over, or when nothing more goes.
    ///
    /// A next hop may stay for good: bgpd 8.4 tells zebra of the route that takes the place of one through it, not that the other went
    /// (FRR #13557).
    async fn drained(&self, devices: &BTreeMap<String, VrfName>) -> Result<BTreeMap<String, Carried>, RunError> {
        let end = Instant::now() + self.limits.drained;
        let mut left = self.carried(devices).await?;
        let mut since = Instant::now();
        loop {
            let stays = left.values().all(|carried| !carried.up) && since.elapsed() >= self.limits.unplugged;
            if left.is_empty() || stays || Instant::now() >= end {
                return Ok(left);
            }
            tokio::time::sleep(ASK_AGAIN).await;
            let now = self.carried(devices).await?;
            if now != left {
                (left, since) = (now, Instant::now());
            }
        }
    }

    /// Those of these VRFs that carry anything.
    async fn carried(&self, devices: &BTreeMap<String, VrfName>) -> Result<BTreeMap<String, Carried>, RunError> {
        let vnis = self.vnis_of(|vrf, _| devices.contains_key(vrf)).await?;
        let hops = self.ports.daemons.next_hops().await.map_err(step("ask zebra for its next hops"))?;
        let carried =
            |vni: VniState| Carried { up: vni.up, next_hops: hops.get(&vni.vni).copied().unwrap_or_default() };
        let mut vrfs: BTreeMap<_, _> = vnis.into_iter().map(|(vrf, vni)| (vrf, carried(vni))).collect();
        vrfs.retain(|_, carried| carried.up || carried.next_hops > 0);
        Ok(vrfs)
    }

    /// zebra's VNIs of such VRFs, by device.
    async fn vnis_of(&self, such: impl Fn(&str, &VniState) -> bool) -> Result<BTreeMap<String, VniState>, RunError> {
        let mut vnis = self.ports.daemons.vnis().await.map_err(step("ask zebra for its VNIs"))?;
        vnis.retain(|vrf, vni| such(vrf, vni));
        Ok(vnis)
    }

    /// Has bgpd find its neighbors that go, where its version needs that.
    ///
    /// Before FRR 10, bgpd keeps unnumbered neighbors in a hash by their address. Of several that are new at once and have none
    /// yet, some stay in it without one when they learn theirs. Deleted like that, they are freed and stay in it for the
    /// next new one to be compared with (SIGSEGV in `bgp_peer_conf_if_to_su_update`). One that loses its address is found
    /// again, if it is the only one; it must have one again when it is deleted, or the cache of next hops keeps it
    /// (SIGSEGV in `evaluate_paths`). The sessions are those of VRFs that go.
    pub(super) async fn find_neighbors(&self, links: &LinkPlan) -> Result<(), RunError> {
        let going: Vec<VrfName> = links.remove.iter().filter_map(|op| op.deletes(LinkRole::VethVrf)).collect();
        if going.is_empty() || !self.ports.daemons.loses_neighbors().await.map_err(step("ask bgpd for its version"))? {
            return Ok(());
        }
        for vrf in going {
            let (name, neighbor) = (LinkRole::VethVrf.name(&vrf), LinkRole::VethDefault.name(&vrf).to_string());
            let addressed =
                async || self.ports.daemons.addressed(&neighbor).await.map_err(step("ask bgpd for a neighbor"));
            if addressed().await? {
                let apply =
                    async |op: LinkOp| self.ports.links.apply(&[op]).await.map_err(step("set a veth down and up"));
                apply(LinkOp::SetDown { name: name.clone() }).await?;
                until(self.limits.unplugged, addressed, |addressed| !addressed).await?;
                apply(LinkOp::SetUp { name }).await?;
                until(self.limits.unplugged, addressed, |addressed| *addressed).await?;
            }
        }
        Ok(())
    }
}

fn device(vrf: &VrfName) -> String {
    LinkRole::Vrf.name(vrf).to_string()
}
