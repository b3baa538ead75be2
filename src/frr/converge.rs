//! FRR's running configuration over the vty sockets: read it, give it lines, take lines out.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use futures::future::{join_all, try_join_all};

use super::command::{Command, Verdict, giving, taking};
use super::config::{Config, Line};
use super::running::{RunningError, sessions};
use super::teller::{Manner, Teller, given_at_once};
use super::vty::Vty;

/// The configuration that FRR runs. Routing policy is what bgpd has of it.
///
/// # Errors
/// zebra or bgpd does not answer.
pub async fn running(vty: &Vty) -> Result<Config, RunningError> {
    let daemons = printed(vty, |text| Config::parse(&text)).await?;
    Ok(Config::merge(&daemons, "bgpd"))
}

/// A hash of the same: who only asks whether anything is other than before needs no more.
///
/// # Errors
/// As [`running`].
pub async fn fingerprint(vty: &Vty) -> Result<u64, RunningError> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    Ok(hasher.hash_one(printed(vty, |text| hasher.hash_one(text)).await?))
}

/// What becomes of what each daemon prints as its configuration.
async fn printed<T>(vty: &Vty, made: impl Fn(String) -> T) -> Result<BTreeMap<String, T>, RunningError> {
    let made = &made;
    let asked = sessions(vty).await?.into_iter().map(|mut session| async move {
        let text = session.ask("show running-config").await?;
        Ok::<_, RunningError>((session.daemon().to_owned(), made(text)))
    });
    Ok(try_join_all(asked).await?.into_iter().collect())
}

/// Gives FRR lines that it does not have; one verdict for each. What a daemon takes is in force at once.
///
/// # Errors
/// A daemon goes away, or another session keeps its configuration locked.
pub async fn give(vty: &Vty, lines: &[Line]) -> Result<Vec<Verdict>, RunningError> {
    let commands = giving(lines);
    let (mut verdicts, waited) = carry_out(vty, &commands, lines.len(), Manner::AtOnce).await?;
    let mut lost: BTreeSet<usize> = match waited {
        true => commands.iter().map(|command| command.line).collect(),
        false => given_at_once(&commands).map(|command| command.line).collect(),
    };
    if lost.is_empty() {
        return Ok(verdicts);
    }
    // Only what is shown has been taken: of a transaction that it refused, or that somebody else's has undone, FRR says nothing.
    let running = running(vty).await?;
    let seen: BTreeSet<&Line> = running.lines().iter().collect();
    lost.retain(|line| lines.get(*line).is_some_and(|line| !seen.contains(line)));
    let again: Vec<Command> = commands.into_iter().filter(|command| lost.contains(&command.line)).collect();
    let (told, _) = carry_out(vty, &again, lines.len(), Manner::OneByOne).await?;
    for (line, (verdict, told)) in verdicts.iter_mut().zip(told).enumerate() {
        if lost.contains(&line) {
            *verdict = told;
        }
    }
    Ok(verdicts)
}

/// Takes lines out of FRR; one verdict for each. A line that went with another one is refused, which is no harm: what counts
/// is the running configuration afterwards.
///
/// # Errors
/// A daemon goes away, or another session keeps its configuration locked.
pub async fn take(vty: &Vty, lines: &[Line]) -> Result<Vec<Verdict>, RunningError> {
    Ok(carry_out(vty, &taking(lines), lines.len(), Manner::AtOnce).await?.0)
}

async fn carry_out(
    vty: &Vty,
    commands: &[Command],
    lines: usize,
    manner: Manner,
) -> Result<(Vec<Verdict>, bool), RunningError> {
    let mut verdicts = vec![Verdict::Unknown; lines];
    if commands.is_empty() {
        return Ok((verdicts, false));
    }
    let told = sessions(vty).await?.into_iter().map(|session| Teller::new(session).tell(commands, manner));
    // One that goes away keeps no other from the end of its transaction.
    let told = join_all(told).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let waited = told.iter().any(|(_, waited)| *waited);
    for (line, verdict) in told.into_iter().flat_map(|(verdicts, _)| verdicts) {
        let Some(so_far) = verdicts.get_mut(line) else { continue };
        *so_far = match (&so_far, verdict) {
            (_, refused @ Verdict::Refused(_)) => refused,
            (Verdict::Unknown, verdict) => verdict,
            _ => continue,
        };
    }
    Ok((verdicts, waited))
}
