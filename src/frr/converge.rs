//! FRR's running configuration over the vty sockets: read it, give it lines, take lines out.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::command::{Command, Verdict, giving, taking};
use super::config::{Config, Line};
use super::running::{RunningError, sessions};
use super::teller::Teller;
use super::vty::Vty;

/// The configuration that FRR runs. Routing policy is what bgpd has of it.
///
/// # Errors
/// zebra or bgpd does not answer.
pub async fn running(vty: &Vty) -> Result<Config, RunningError> {
    let asked = sessions(vty).await?.into_iter().map(|mut session| async move {
        let text = session.ask("show running-config").await?;
        Ok::<_, RunningError>((session.daemon().to_owned(), Config::parse(&text)))
    });
    let daemons: BTreeMap<String, Config> = try_join_all(asked).await?.into_iter().collect();
    Ok(Config::merge(&daemons, "bgpd"))
}

/// Gives FRR lines that it does not have; one verdict for each. What a daemon takes is in force at once.
///
/// # Errors
/// A daemon goes away.
pub async fn give(vty: &Vty, lines: &[Line]) -> Result<Vec<Verdict>, RunningError> {
    carry_out(vty, &giving(lines), lines.len()).await
}

/// Takes lines out of FRR; one verdict for each. A line that went with another one is refused, which is no harm: what counts
/// is the running configuration afterwards.
///
/// # Errors
/// A daemon goes away.
pub async fn take(vty: &Vty, lines: &[Line]) -> Result<Vec<Verdict>, RunningError> {
    carry_out(vty, &taking(lines), lines.len()).await
}

async fn carry_out(vty: &Vty, commands: &[Command], lines: usize) -> Result<Vec<Verdict>, RunningError> {
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let told = sessions(vty).await?.into_iter().map(|session| Teller::new(session).tell(commands));
    let mut verdicts = vec![Verdict::Unknown; lines];
    for (line, verdict) in try_join_all(told).await?.into_iter().flatten() {
        let Some(so_far) = verdicts.get_mut(line) else { continue };
        *so_far = match (&so_far, verdict) {
            (_, refused @ Verdict::Refused(_)) => refused,
            (Verdict::Unknown, verdict) => verdict,
            _ => continue,
        };
    }
    Ok(verdicts)
}
