//! The BGP sessions of VRFs, once more where they were not established yet when a run ended: no event tells when they are.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::VrfState;
use crate::frr::running;
use crate::frr::vty::Vty;
use crate::link::LinkRole;
use crate::status::node::RunReport;
use crate::trigger::doubled;

/// How long FRR may take to tell what no run depends on.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// First wait after a run; doubled with each look that finds a session not established. bgpd tells nobody when one is.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LAST_LOOK: Duration = Duration::from_secs(60);

/// Names of the neighbors in the default instance whose session is established; nothing where bgpd does not tell.
pub(super) async fn established() -> Option<BTreeSet<String>> {
    let asked = tokio::time::timeout(PATIENCE, running::established(&Vty::default())).await;
    asked.ok().and_then(Result::ok)
}

/// Says of each VRF whether its session is among these; gives whether that is another word than before.
pub(super) fn mark(vrfs: &mut [VrfState], established: Option<&BTreeSet<String>>) -> bool {
    let mut changed = false;
    for vrf in vrfs {
        let neighbor = vrf.name.parse().map(|name| LinkRole::VethDefault.name(&name));
        let now = neighbor.ok().and_then(|name| Some(established?.contains(name.as_str())));
        changed |= std::mem::replace(&mut vrf.session_established, now) != now;
    }
    changed
}

/// Looks less and less often while a VRF that is up has no session, and has the report of the last run say what became of it.
pub(super) async fn follow(reports: watch::Sender<Option<RunReport>>, cancel: CancellationToken) {
    let mut heard = reports.subscribe();
    let (mut run, mut looks) = (None, 0_u32);
    loop {
        let (last, waits) = {
            let report = heard.borrow_and_update();
            (report.as_ref().map(|report| report.start), report.as_ref().is_some_and(waits))
        };
        if run != last {
            (run, looks) = (last, 0);
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = heard.changed() => if changed.is_err() { return } else { continue },
            () = tokio::time::sleep(doubled(FIRST_LOOK, looks, LAST_LOOK)), if waits => {}
        }
        looks = looks.saturating_add(1);
        let established = established().await;
        reports.send_if_modified(|report| {
            // A newer run has looked for itself.
            let same = report.as_mut().filter(|report| Some(report.start) == run);
            same.is_some_and(|report| mark(&mut report.vrfs, established.as_ref()))
        });
    }
}

fn waits(report: &RunReport) -> bool {
    report.vrfs.iter().any(|vrf| vrf.up && vrf.session_established != Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vrf_is_marked_by_the_neighbor_of_its_name_and_a_change_is_said() {
        let vrf = |name: &str| VrfState {
            name: name.to_owned(),
            vni: Some(1),
            up: true,
            session_established: None,
            message: String::new(),
        };
        let mut vrfs = [vrf("a"), vrf("b")];
        let told = BTreeSet::from(["dv.a".to_owned(), "192.0.2.1".to_owned()]);
        assert!(mark(&mut vrfs, Some(&told)));
        assert_eq!([vrfs[0].session_established, vrfs[1].session_established], [Some(true), Some(false)]);
        assert!(!mark(&mut vrfs, Some(&told)));
        assert!(mark(&mut vrfs, None), "where bgpd does not tell, nothing is known");
        assert_eq!(vrfs[0].session_established, None);
    }
}
