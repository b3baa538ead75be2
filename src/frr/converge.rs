//! FRR's running configuration over the vty sockets: read it, give it lines, take lines out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;

use super::command::{Command, Verdict, giving, taking};
use super::config::{Config, Line};
use super::running::{RunningError, sessions};
use super::vty::{Vty, VtyError, VtySession};

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
    let told = sessions(vty).await?.into_iter().map(|session| Teller { session, open: Vec::new() }.tell(commands));
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

/// One daemon that is told commands.
struct Teller {
    session: VtySession,
    /// The blocks that the session stands in.
    open: Vec<String>,
}

impl Teller {
    async fn tell(mut self, commands: &[Command]) -> Result<Vec<(usize, Verdict)>, VtyError> {
        self.session.ask("configure terminal").await?;
        let mut verdicts = Vec::new();
        // What is not known at all is not asked for again with each line of its kind, or of its block.
        let mut closed: Option<(Arc<[String]>, Verdict)> = None;
        let mut unknown = BTreeSet::new();
        for command in commands {
            if let Some((blocks, verdict)) = &closed
                && *blocks == command.blocks
            {
                verdicts.push((command.line, verdict.clone()));
                continue;
            }
            let kind = command.kind();
            if kind.as_ref().is_some_and(|kind| unknown.contains(kind)) {
                verdicts.push((command.line, Verdict::Unknown));
                continue;
            }
            let verdict = match self.enter(&command.blocks).await? {
                Verdict::Taken => self.say(&command.forms).await?,
                verdict => {
                    closed = Some((command.blocks.clone(), verdict.clone()));
                    verdict
                }
            };
            if verdict == Verdict::Unknown {
                unknown.extend(kind);
            }
            verdicts.push((command.line, verdict));
        }
        self.session.ask("end").await?;
        Ok(verdicts)
    }

    /// Goes to the block, out of the others and into this.
    async fn enter(&mut self, blocks: &[String]) -> Result<Verdict, VtyError> {
        let common = self.open.iter().zip(blocks).take_while(|(a, b)| a == b).count();
        for _ in common..self.open.len() {
            self.session.ask("exit").await?;
        }
        self.open.truncate(common);
        for block in blocks.iter().skip(common) {
            match self.say(std::slice::from_ref(block)).await? {
                Verdict::Taken => {}
                verdict => return Ok(verdict),
            }
        }
        Ok(Verdict::Taken)
    }

    async fn say(&mut self, forms: &[String]) -> Result<Verdict, VtyError> {
        let mut verdict = Verdict::Unknown;
        for form in forms {
            verdict = match self.session.ask(form).await {
                Ok(_) => {
                    let line = Line { blocks: self.open.as_slice().into(), text: form.clone() };
                    if line.opens_block() {
                        self.open.push(line.text);
                    }
                    return Ok(Verdict::Taken);
                }
                Err(VtyError::Refused { known: false, .. }) => Verdict::Unknown,
                Err(VtyError::Refused { answer, .. }) => {
                    Verdict::Refused(answer.split_whitespace().collect::<Vec<_>>().join(" "))
                }
                Err(error) => return Err(error),
            };
        }
        Ok(verdict)
    }
}
