//! FRR's running state over the vty sockets, in our words.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use futures::future::try_join_all;
use serde::Deserialize;

use super::vty::{Vty, VtyError, VtySession};

/// FRR did not tell, or not in the form that is known.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// No answer.
    #[error(transparent)]
    Vty(#[from] VtyError),
    /// An answer that is not understood.
    #[error("`{command}` answered what is not known here")]
    Answer {
        /// What was asked.
        command: &'static str,
        /// Where it is not understood.
        #[source]
        source: serde_json::Error,
    },
    /// mgmtd (FRR 9 and later) has static routes that staticd never hears of.
    #[error("staticd is not connected to mgmtd: static routes are configured that zebra never hears of; restart FRR")]
    StaticdApart,
    /// watchfrr misses daemons that the site has enabled.
    #[error("watchfrr has {}; see `journalctl -u frr`", .0.join(", "))]
    DaemonsDown(Vec<String>),
    /// The folder of the sockets cannot be read.
    #[error("list FRR's daemons in {path}")]
    Daemons {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// `show vrf vni json`.
#[derive(Debug, Deserialize)]
struct VrfVnis {
    #[serde(default)]
    vrfs: Vec<VrfVni>,
}

/// One VRF with a VNI.
#[derive(Debug, Clone, Deserialize)]
pub struct VrfVni {
    /// Interface name of the VRF.
    pub vrf: String,
    /// Its VNI.
    pub vni: u32,
    /// `Up` or `Down`.
    pub state: String,
    /// The VXLAN, or `None`.
    #[serde(rename = "vxlanIntf")]
    vxlan: String,
}

impl VrfVni {
    /// Whether zebra has found a VXLAN for it.
    pub fn has_vxlan(&self) -> bool {
        self.vxlan != "None"
    }
}

const SHOW_VRF_VNI: &str = "show vrf vni json";
const SHOW_NEXT_HOPS: &str = "show evpn next-hops vni all json";
const SHOW_BGP_SUMMARY: &str = "show bgp summary json";
const SHOW_WATCHED: &str = "show watchfrr";
const SHOW_BACKENDS: &str = "show mgmt backend-adapter all";
/// BGP sessions of all instances, as JSON.
pub(crate) const SHOW_ALL_BGP_SUMMARIES: &str = "show bgp vrf all summary json";

/// VRFs that zebra maps to a VNI, by interface name.
///
/// # Errors
/// zebra does not answer, or not in JSON.
pub async fn vrf_vnis(vty: &Vty) -> Result<BTreeMap<String, VrfVni>, RunningError> {
    let answer = vty.ask("zebra", SHOW_VRF_VNI).await?;
    vrf_vnis_of(&answer).map_err(|source| RunningError::Answer { command: SHOW_VRF_VNI, source })
}

fn vrf_vnis_of(answer: &str) -> serde_json::Result<BTreeMap<String, VrfVni>> {
    let parsed: VrfVnis = serde_json::from_str(answer)?;
    Ok(parsed.vrfs.into_iter().map(|vrf| (vrf.vrf.clone(), vrf)).collect())
}

/// How many next hops of EVPN zebra has, by VNI: those that routes in the VNI's VRF go to.
///
/// # Errors
/// zebra does not answer, or not in JSON.
pub async fn next_hops(vty: &Vty) -> Result<BTreeMap<u32, usize>, RunningError> {
    let answer = vty.ask("zebra", SHOW_NEXT_HOPS).await?;
    next_hops_of(&answer).map_err(|source| RunningError::Answer { command: SHOW_NEXT_HOPS, source })
}

fn next_hops_of(answer: &str) -> serde_json::Result<BTreeMap<u32, usize>> {
    #[derive(serde::Deserialize)]
    struct NextHops {
        #[serde(rename = "numNextHops")]
        count: usize,
    }
    let vnis: BTreeMap<u32, NextHops> = serde_json::from_str(answer)?;
    Ok(vnis.into_iter().map(|(vni, hops)| (vni, hops.count)).collect())
}

/// Whether an unnumbered neighbor of the default instance has learned an address.
///
/// # Errors
/// bgpd does not answer.
pub async fn addressed(vty: &Vty, neighbor: &str) -> Result<bool, RunningError> {
    let answer = match vty.ask("bgpd", &format!("show bgp neighbors {neighbor} json")).await {
        Err(VtyError::Refused { .. }) => return Ok(false),
        answer => answer?,
    };
    // "none" where it has not; no such key where there is no such neighbor.
    let parsed: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    let address = parsed.get(neighbor).and_then(|neighbor| neighbor.get("bgpNeighborAddr")?.as_str());
    Ok(address.is_some_and(|address| address != "none"))
}

/// Neighbors of the default instance whose session is established, by the names that the configuration gives them.
///
/// # Errors
/// bgpd does not answer, or not in JSON.
pub async fn established(vty: &Vty) -> Result<BTreeSet<String>, RunningError> {
    let answer = vty.ask("bgpd", SHOW_BGP_SUMMARY).await?;
    established_of(&answer).map_err(|source| RunningError::Answer { command: SHOW_BGP_SUMMARY, source })
}

fn established_of(summary: &str) -> serde_json::Result<BTreeSet<String>> {
    let families: Families = serde_json::from_str(summary)?;
    let up = peers(&families).filter(|(_, established)| *established);
    Ok(up.map(|(name, _)| name.to_owned()).collect())
}

/// Neighbors of all instances by the names that the configuration gives them, and whether their session is established: in each
/// instance that has one of that name.
///
/// # Errors
/// bgpd does not answer, or not in JSON.
pub async fn neighbors(vty: &Vty) -> Result<BTreeMap<String, bool>, RunningError> {
    let answer = vty.ask("bgpd", SHOW_ALL_BGP_SUMMARIES).await?;
    neighbors_of(&answer).map_err(|source| RunningError::Answer { command: SHOW_ALL_BGP_SUMMARIES, source })
}

fn neighbors_of(summaries: &str) -> serde_json::Result<BTreeMap<String, bool>> {
    let instances: BTreeMap<Cow<'_, str>, Families> = serde_json::from_str(summaries)?;
    let mut all = BTreeMap::new();
    for families in instances.values() {
        // A neighbor is told of in each of its address families, in the same state.
        for (name, established) in peers(families).collect::<BTreeMap<_, _>>() {
            *all.entry(name.to_owned()).or_insert(true) &= established;
        }
    }
    Ok(all)
}

/// The address families of an instance's summary.
type Families<'a> = BTreeMap<Cow<'a, str>, Family<'a>>;

/// What is gone by of a summary: it has forty figures for each neighbor.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Family<'a> {
    #[serde(borrow)]
    peers: BTreeMap<Cow<'a, str>, Peer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Peer<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
}

/// The peers of an instance by address family, and whether their session is established.
fn peers<'a>(families: &'a Families<'_>) -> impl Iterator<Item = (&'a str, bool)> {
    let peers = families.values().flat_map(|family| &family.peers);
    peers.map(|(name, peer)| (name.as_ref(), peer.state == "Established"))
}

/// Makes sure that all daemons that run answer within `limit`, but for mgmtd: see [`mgmtd`]; and that those run that watchfrr watches,
/// which are those that the site has enabled.
///
/// # Errors
/// One that does not, or zebra or bgpd do not run.
pub async fn answering(vty: &Vty, limit: Duration) -> Result<(), RunningError> {
    let mut asked: BTreeSet<String> = daemons(vty)?.into_iter().filter(|daemon| daemon != "mgmtd").collect();
    asked.extend(NEEDED.map(str::to_owned));
    let down = try_join_all(asked.iter().map(|daemon| missed(vty, daemon, limit))).await?.concat();
    if down.is_empty() { Ok(()) } else { Err(RunningError::DaemonsDown(down)) }
}

/// Makes sure that a daemon answers where it runs; gives the daemons that watchfrr misses, where it is that.
async fn missed(vty: &Vty, daemon: &str, limit: Duration) -> Result<Vec<String>, VtyError> {
    let watches = daemon == "watchfrr";
    let command = if watches { SHOW_WATCHED } else { "show version" };
    let asked = async {
        match if_needed(vty.viewer(daemon).await, daemon)? {
            Some(mut session) => session.ask(command).await.map(Some),
            None => Ok(None),
        }
    };
    let slow = |_| VtyError::Slow { daemon: daemon.to_owned(), command: command.to_owned(), limit };
    let answer = tokio::time::timeout(limit, asked).await.map_err(slow)??;
    Ok(answer.filter(|_| watches).map(|answer| not_up(&answer)).unwrap_or_default())
}

/// `show watchfrr` (`watchfrr_status` of watchfrr/watchfrr.c): behind two spaces the name of a daemon and `Init`, `Down`, `Connecting`, `Up`
/// or `Unresponsive`, with `/Ignoring Timeout` where somebody asked for that.
fn not_up(answer: &str) -> Vec<String> {
    let daemons = answer.lines().filter_map(|line| {
        let line = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
        let (name, state) = line.split_once(' ')?;
        let state = state.trim().split('/').next()?;
        (state != "Up").then(|| format!("{name} {}", state.to_lowercase()))
    });
    daemons.collect()
}

/// Makes sure that mgmtd answers where it runs, and that staticd hears of its routes. A session with mgmtd that ends throws away what
/// another one has not committed yet (10.3: `mgmt_fe_cleanup_session` copies what runs over the candidate, whosever session it is), so
/// this must not be asked while FRR is given lines.
///
/// # Errors
/// It does not answer, or staticd is not connected.
pub async fn mgmtd(vty: &Vty) -> Result<(), RunningError> {
    let backends = match vty.ask("mgmtd", SHOW_BACKENDS).await {
        Err(error) if error.nobody_listens() => return Ok(()),
        backends => backends?,
    };
    let apart = !is_backend("staticd", &backends) && vty.listens("staticd").await?;
    if apart { Err(RunningError::StaticdApart) } else { Ok(()) }
}

/// `show mgmt backend-adapter all` (`mgmt_be_adapter_status_write` in mgmtd/mgmt_be_adapter.c): a line `Client: NAME` for each daemon
/// that is connected.
fn is_backend(daemon: &str, answer: &str) -> bool {
    answer.lines().any(|line| line.trim_start().strip_prefix("Client:").is_some_and(|name| name.trim() == daemon))
}

/// bgpd's version, from `FRRouting 8.4.4 (node-1) on Linux(6.1.0)`.
///
/// # Errors
/// bgpd does not answer.
pub async fn version(vty: &Vty) -> Result<Option<String>, RunningError> {
    let answer = vty.ask("bgpd", "show version").await?;
    Ok(answer.split_whitespace().nth(1).map(str::to_owned))
}

/// Gives a configuration command; gives what the daemon said where it refuses it.
async fn configure(session: &mut VtySession, command: &str) -> Result<Option<VtyError>, RunningError> {
    session.ask("configure terminal").await?;
    let refused = match session.ask(command).await {
        Err(error @ (VtyError::Refused { .. } | VtyError::Locked { .. })) => Some(error),
        answer => answer.map(|_| None)?,
    };
    session.ask("end").await?;
    Ok(refused)
}

/// Removes VRF stanzas that stay in the running configuration when the device is gone: no reload removes them
/// (FRR #21245), `no vrf` does, in every daemon that shows them. Gives the stanzas that are still there, each with what
/// the daemon said: it refuses until it has learned from the kernel that the device is gone.
///
/// # Errors
/// A daemon does not answer.
pub async fn forget_vrfs(vty: &Vty, vrfs: &[String]) -> Result<BTreeMap<String, String>, RunningError> {
    let mut left = BTreeMap::new();
    for mut session in sessions(vty).await? {
        let running = session.ask("show running-config").await?;
        for vrf in vrfs.iter().filter(|vrf| running.lines().any(|line| line == format!("vrf {vrf}"))) {
            if let Some(error) = configure(&mut session, &format!("no vrf {vrf}")).await? {
                left.insert(vrf.clone(), error.to_string());
            }
        }
    }
    Ok(left)
}

/// Sessions with all daemons that run. A daemon that was killed leaves its socket behind, and FRR 8 always does.
pub(super) async fn sessions(vty: &Vty) -> Result<Vec<VtySession>, RunningError> {
    let mut sessions = Vec::new();
    for daemon in daemons(vty)? {
        sessions.extend(if_needed(vty.session(&daemon).await, &daemon)?);
    }
    Ok(sessions)
}

/// No session where nobody listens, unless nothing goes without the daemon.
fn if_needed(session: Result<VtySession, VtyError>, daemon: &str) -> Result<Option<VtySession>, VtyError> {
    match session {
        Err(error) if error.nobody_listens() && !NEEDED.contains(&daemon) => {
            tracing::debug!(%error, "left out");
            Ok(None)
        }
        session => session.map(Some),
    }
}

/// Daemons without which nothing that is done here means anything.
const NEEDED: [&str; 2] = ["zebra", "bgpd"];

fn daemons(vty: &Vty) -> Result<Vec<String>, RunningError> {
    let failed = |source| RunningError::Daemons { path: vty.folder().to_owned(), source };
    let mut daemons = Vec::new();
    for entry in std::fs::read_dir(vty.folder()).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(daemon) = name.to_string_lossy().strip_suffix(".vty") {
            daemons.push(daemon.to_owned());
        }
    }
    daemons.sort();
    Ok(daemons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_that_have_their_configuration_from_mgmtd_are_told_by_name() {
        let zebra = "MGMTD Backend Adapters\n  Client: \t\t\tzebra\n    Conn-FD: \t\t\t21\n    Client-Id: \t\t\t0\n  Total: 1\n";
        assert!(is_backend("zebra", zebra) && !is_backend("staticd", zebra));
        assert!(is_backend("staticd", &zebra.replace("zebra", "staticd")));
    }

    /// Answers of 8.4.4 and 10.3, shortened.
    #[test]
    fn vnis_tell_their_vxlan_and_how_many_next_hops_routes_go_to() {
        let vnis = r#"{"vrfs": [
            {"vrf": "vr.blue", "vni": 100, "vxlanIntf": "vx.blue", "sviIntf": "br.blue", "state": "Up", "routerMac": "02:54:c0:00:02:81"},
            {"vrf": "vr.red", "vni": 101, "vxlanIntf": "None", "sviIntf": "br.red", "state": "Down", "routerMac": "None"}]}"#;
        let vnis = vrf_vnis_of(vnis).unwrap();
        assert!(vnis["vr.blue"].has_vxlan() && !vnis["vr.red"].has_vxlan());
        let hops =
            r#"{"100": {"numNextHops": 1, "192.0.2.1": {"nexthopIp": "192.0.2.1", "routerMac": "02:54:c0:00:02:01"}}}"#;
        assert_eq!(next_hops_of(hops).unwrap(), BTreeMap::from([(100, 1)]));
        assert!(next_hops_of("{}").unwrap().is_empty());
    }

    #[test]
    fn what_watchfrr_misses_is_named_with_its_state() {
        let answer = "watchfrr global phase: Idle\n Restart Command: \"/usr/lib/frr/watchfrr.sh restart %s\"\n Reading Configuration: no\n  \
            zebra                Up\n  bgpd                 Up/Ignoring Timeout\n  staticd              Down\n      \
            restarting in 12 seconds (60s backoff interval)\n  bfdd                 Unresponsive\n";
        assert_eq!(not_up(answer), ["staticd down", "bfdd unresponsive"]);
        assert!(not_up("").is_empty());
    }

    #[test]
    fn sessions_are_those_of_all_address_families() {
        let summary = r#"{
            "ipv4Unicast": {"routerId": "192.0.2.129", "peers": {
                "dv.blue": {"state": "Established", "peerState": "OK"}, "dv.red": {"state": "Active", "peerState": "OK"}}},
            "ipv6Unicast": {"peers": {"dv.green": {"state": "Established"}}},
            "l2VpnEvpn": {"warning": "no peers"}}"#;
        let established = established_of(summary).unwrap();
        assert_eq!(established.iter().map(String::as_str).collect::<Vec<_>>(), ["dv.blue", "dv.green"]);
        assert!(established_of("{}").unwrap().is_empty());
        assert!(established_of("% BGP instance not found").is_err());
    }
}
