//! Takes links out of service before FRR loses the lines that they go by.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{RunError, step};
use super::pipeline::{Pipeline, until};
use super::{ConfigPort, DaemonPort, LinkPort, ServicePort, VniState};
use crate::link::{LinkOp, LinkPlan, LinkRole};
use crate::model::VrfName;

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// Sets the VXLANs that go down and deletes them, once; waits each time until zebra has seen it. See [`LinkPlan::unplug`].
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
        let vrfs: BTreeSet<String> = vrfs.into_iter().map(name_of_vrf).collect();
        // Where EVPN is off, no VNI is up, and zebra forgets no VXLAN.
        let up = self.vnis_of(&vrfs).await?.into_iter().filter(|(_, vni)| vni.up).map(|(vrf, _)| vrf).collect();
        self.ports.links.apply(&down).await.map_err(step("set VXLANs down"))?;
        let left = until(self.limits.drained, async || self.carrying(&vrfs).await, BTreeSet::is_empty).await?;
        if !left.is_empty() {
            tracing::warn!(vrf = ?left, "zebra keeps routes of EVPN in VRFs whose VXLANs are down; they are deleted all the same");
        }
        self.ports.links.apply(&vxlans).await.map_err(step("delete VXLANs"))?;
        let seen = async || Ok(self.vnis_of(&up).await?.values().all(|vni| !vni.vxlan));
        until(self.limits.unplugged, seen, |seen| *seen).await?;
        Ok(())
    }

    /// Those of these VRFs whose VNI is up, or in which zebra has routes of EVPN.
    async fn carrying(&self, vrfs: &BTreeSet<String>) -> Result<BTreeSet<String>, RunError> {
        let vnis = self.vnis_of(vrfs).await?;
        let hops = self.ports.daemons.vnis_with_next_hops().await.map_err(step("ask zebra for its next hops"))?;
        let carrying = vnis.into_iter().filter(|(_, vni)| vni.up || hops.contains(&vni.vni));
        Ok(carrying.map(|(vrf, _)| vrf).collect())
    }

    async fn vnis_of(&self, vrfs: &BTreeSet<String>) -> Result<BTreeMap<String, VniState>, RunError> {
        let mut vnis = self.ports.daemons.vnis().await.map_err(step("ask zebra for its VNIs"))?;
        vnis.retain(|vrf, _| vrfs.contains(vrf));
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

fn name_of_vrf(vrf: VrfName) -> String {
    LinkRole::Vrf.name(&vrf).to_string()
}
