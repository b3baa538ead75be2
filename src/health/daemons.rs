//! What FRR says of its health: the unit, its daemons, sessions, VNIs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::frr::running;
use crate::frr::vty::Vty;
use crate::systemd::Systemd;
use crate::trigger::with_causes;

/// How long FRR, or systemd, may take to tell all of one thing.
const PATIENCE: Duration = Duration::from_secs(5);

async fn within<T>(what: &str, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(format!("{what} did not answer within {}s", PATIENCE.as_secs())))
}

/// Whose turn it is with mgmtd: a run has it from its beginning to its end. Who asks mgmtd meanwhile undoes what the run gives FRR
/// (see [`running::mgmtd`]).
pub type Turn = Arc<Mutex<()>>;

/// The unit that runs FRR, and what is kept of it from round to round.
#[derive(Debug)]
pub struct Unit {
    name: &'static str,
    systemd: Mutex<Option<Systemd>>,
    turn: Turn,
    /// What was wrong with mgmtd when it was last asked.
    mgmtd: Mutex<Option<String>>,
}

impl Unit {
    /// A unit by its name.
    pub fn new(name: &'static str, turn: Turn) -> Self {
        Self { name, systemd: Mutex::default(), turn, mgmtd: Mutex::default() }
    }

    /// What is wrong with mgmtd, or was before the run that is under way.
    async fn mgmtd(&self, vty: &Vty) -> Option<String> {
        let mut fault = self.mgmtd.lock().await;
        if let Ok(_turn) = self.turn.try_lock() {
            let asked = async { running::mgmtd(vty).await.map_err(|error| with_causes(&error)) };
            *fault = within("mgmtd", asked).await.err();
        }
        fault.clone()
    }

    /// Its active state, and the finer one.
    async fn activity(&self) -> zbus::Result<(String, String)> {
        let mut kept = self.systemd.lock().await;
        // An old connection may have broken since: only what a new one says is a fault.
        if let Some(systemd) = kept.take()
            && let Ok(activity) = systemd.activity(self.name).await
        {
            *kept = Some(systemd);
            return Ok(activity);
        }
        let systemd = Systemd::connect().await?;
        let activity = systemd.activity(self.name).await?;
        *kept = Some(systemd);
        Ok(activity)
    }
}

/// What is wrong with the unit and its daemons.
pub async fn faults(unit: &Unit, vty: &Vty) -> Vec<String> {
    let name = unit.name;
    let failed = |error: zbus::Error| format!("systemd does not tell of {name}: {}", with_causes(&error));
    match within("systemd", async { unit.activity().await.map_err(failed) }).await {
        // While it reloads, it runs.
        Ok((active, sub)) if (active == "active" && sub == "running") || active == "reloading" => {}
        Ok((active, sub)) if active == "active" => return vec![format!("{name} is {active}, but {sub}")],
        Ok((active, _)) => return vec![format!("{name} is {active}")],
        Err(fault) => return vec![fault],
    }
    let (daemons, mgmtd) = tokio::join!(running::answering(vty, PATIENCE), unit.mgmtd(vty));
    daemons.err().map(|error| with_causes(&error)).into_iter().chain(mgmtd).collect()
}

/// Neighbors of all BGP instances by name, and whether their session is established.
///
/// # Errors
/// bgpd does not tell.
pub async fn sessions(vty: &Vty) -> Result<BTreeMap<String, bool>, String> {
    within("bgpd", async { running::neighbors(vty).await.map_err(|error| with_causes(&error)) }).await
}

/// What is wrong with the VNIs of these VRFs, by interface name.
pub async fn vni_faults(vty: &Vty, vrfs: &[String]) -> Vec<String> {
    if vrfs.is_empty() {
        return Vec::new();
    }
    match within("zebra", async { running::vrf_vnis(vty).await.map_err(|error| with_causes(&error)) }).await {
        Err(fault) => vec![fault],
        Ok(seen) => {
            let fault = |vrf: &String| match seen.get(vrf) {
                Some(found) if found.state == "Up" => None,
                Some(found) => Some(format!("VNI {} of {vrf} is {}", found.vni, found.state.to_lowercase())),
                None => Some(format!("{vrf} has no VNI")),
            };
            vrfs.iter().filter_map(fault).collect()
        }
    }
}
