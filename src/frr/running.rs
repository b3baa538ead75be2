//! FRR's running state over the vty sockets, in our words.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
}

const SHOW_VRF_VNI: &str = "show vrf vni json";

/// VRFs that zebra maps to a VNI, by interface name.
///
/// # Errors
/// zebra does not answer, or not in JSON.
pub async fn vrf_vnis(vty: &Vty) -> Result<BTreeMap<String, VrfVni>, RunningError> {
    let answer = vty.ask("zebra", SHOW_VRF_VNI).await?;
    let parsed: VrfVnis =
        serde_json::from_str(&answer).map_err(|source| RunningError::Answer { command: SHOW_VRF_VNI, source })?;
    Ok(parsed.vrfs.into_iter().map(|vrf| (vrf.vrf.clone(), vrf)).collect())
}

/// Gives VRFs their VNIs, before the reload that would.
///
/// vtysh 8.4.4 loses the node when `vrf` follows a `router bgp` block in what a reload adds: `vni` then goes to the
/// default VRF, the reload ends with status 1, and systemd stops FRR. A VRF that has its VNI already is not among what
/// the reload adds. VNIs that change hands are taken back first, because zebra refuses a VNI that another VRF has.
///
/// # Errors
/// A daemon does not answer. One that refuses leaves the work to the reload: it says why at debug level.
pub async fn map_vnis(vty: &Vty, wanted: &[(String, u32)]) -> Result<(), RunningError> {
    let current = vrf_vnis(vty).await?;
    let missing = wanted.iter().filter(|(vrf, vni)| current.get(vrf).is_none_or(|seen| seen.vni != *vni));
    let missing: Vec<&(String, u32)> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let stale = current.values().filter(|seen| missing.iter().any(|(vrf, vni)| *vrf == seen.vrf || *vni == seen.vni));
    let take =
        stale.flat_map(|seen| [format!("vrf {}", seen.vrf), format!("no vni {}", seen.vni), "exit-vrf".to_owned()]);
    let give =
        missing.iter().flat_map(|(vrf, vni)| [format!("vrf {vrf}"), format!("vni {vni}"), "exit-vrf".to_owned()]);
    let commands: Vec<String> = take.chain(give).collect();
    // Since FRR 10.2 mgmtd has zebra's configuration commands.
    let daemon = if daemons(vty)?.iter().any(|daemon| daemon == "mgmtd") { "mgmtd" } else { "zebra" };
    configure(&mut vty.session(daemon).await?, &commands).await
}

/// Configuration commands, of which a refused one ends the sequence but is no error.
async fn configure(session: &mut VtySession, commands: &[String]) -> Result<(), RunningError> {
    session.ask("configure terminal").await?;
    for command in commands {
        match session.ask(command).await {
            Err(error @ VtyError::Refused { .. }) => {
                tracing::debug!(%error, "left to the reload");
                break;
            }
            answer => drop(answer?),
        }
    }
    session.ask("end").await?;
    Ok(())
}

/// Removes VRF stanzas that stay in the running configuration when the device is gone: no reload removes them
/// (FRR #21245), `no vrf` does, in every daemon that shows them.
///
/// # Errors
/// A daemon does not answer. A daemon that refuses keeps its stanza: it says why at debug level.
pub async fn forget_vrfs(vty: &Vty, vrfs: &[String]) -> Result<(), RunningError> {
    for daemon in daemons(vty)? {
        let mut session = vty.session(&daemon).await?;
        let running = session.ask("show running-config").await?;
        let left: Vec<&String> =
            vrfs.iter().filter(|vrf| running.lines().any(|line| line == format!("vrf {vrf}"))).collect();
        if left.is_empty() {
            continue;
        }
        for vrf in left {
            configure(&mut session, &[format!("no vrf {vrf}")]).await?;
        }
    }
    Ok(())
}

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
