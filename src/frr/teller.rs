//! Commands for one of FRR's daemons, as few transactions as it takes, with a verdict on each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::command::{Command, Verdict};
use super::config::Line;
use super::vty::{ANSWER, VtyError, VtySession};

/// One daemon that is told commands.
pub(super) struct Teller {
    session: VtySession,
    /// The blocks that the session stands in.
    open: Vec<String>,
}

/// The verdicts on commands, by what they are for.
type Verdicts = Vec<(usize, Verdict)>;

/// The commands that make one transaction of many: FRR's northbound makes one of each command otherwise, and each goes over all
/// that the daemon has. `vtysh -f` does the same (`vtysh_read_file` of FRR's vtysh/vtysh_config.c).
struct Transaction {
    enter: &'static str,
    begin: Option<&'static str>,
    commit: &'static str,
    abort: Option<&'static str>,
}

impl Transaction {
    /// mgmtd (FRR 10) keeps what was not committed until the session ends.
    const MGMTD: Self = Self {
        enter: "configure terminal file-lock",
        begin: None,
        commit: "mgmt commit apply",
        abort: Some("mgmt commit abort"),
    };
    const OTHERS: Self = Self { enter: ENTER, begin: Some("XFRR_start_configuration"), commit: END, abort: None };
}

const ENTER: &str = "configure terminal";
const END: &str = "XFRR_end_configuration";
/// Fewer commands are given one by one: bgpd holds new sessions back for some seconds after a transaction (`bgp_config_end`).
const LEAST: usize = 20;
/// About so many commands are one transaction at most: it is one answer, and that has a limit.
const MOST: usize = 250;
/// How long one transaction may take.
const COMMIT: Duration = Duration::from_secs(120);

/// Cuts commands where one ends that is to be a transaction. No block is cut: an entry of a route-map without its `match` permits all.
fn parts(commands: &[Command]) -> Vec<&[Command]> {
    let (mut parts, mut rest, mut at) = (Vec::new(), commands, 1);
    while let (Some(last), Some(next)) = (rest.get(at - 1), rest.get(at)) {
        let full = at >= MOST && next.blocks.is_empty();
        if full || last.is_transactional() != next.is_transactional() {
            let (part, others) = rest.split_at(at);
            parts.push(part);
            (rest, at) = (others, 1);
        } else {
            at += 1;
        }
    }
    parts.push(rest);
    parts
}

/// Whether these commands are given as a transaction.
fn at_once(part: &[Command]) -> bool {
    part.len() >= LEAST && part.first().is_some_and(Command::is_transactional)
}

/// The commands that go as parts of transactions: FRR tells of none of them alone, and not always that the whole was refused
/// (`cmd_execute_command_real` of its lib/command.c commits before `XFRR_end_configuration` and drops the result).
pub(super) fn given_at_once(commands: &[Command]) -> impl Iterator<Item = &Command> {
    parts(commands).into_iter().filter(|part| at_once(part)).flatten()
}

/// How commands are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As transactions, where they are many.
    AtOnce,
    /// Each alone, so that FRR's words are about it.
    OneByOne,
}

impl Teller {
    pub(super) fn new(session: VtySession) -> Self {
        Self { session, open: Vec::new() }
    }

    /// Gives commands; gives the verdicts on them, and whether another session's lock was met on the way ([`VtySession::waited`]).
    pub(super) async fn tell(mut self, commands: &[Command], manner: Manner) -> Result<(Verdicts, bool), VtyError> {
        let begin = Instant::now();
        let transaction = match self.session.daemon() {
            "mgmtd" => Transaction::MGMTD,
            _ => Transaction::OTHERS,
        };
        if self.session.daemon() == "bgpd" {
            // What somebody began who was killed: it holds new sessions back until that ends, for ten minutes at most.
            self.session.ask(ENTER).await?;
            self.takes(END, ANSWER).await?;
            self.leave().await?;
        }
        let mut verdicts = Vec::new();
        for part in parts(commands) {
            let given = match manner {
                Manner::AtOnce if at_once(part) => self.as_transaction(part, &transaction).await?,
                _ => None,
            };
            verdicts.extend(match given {
                Some(verdicts) => verdicts,
                None => self.one_by_one(part).await?,
            });
        }
        let (daemon, seconds) = (self.session.daemon(), begin.elapsed().as_secs_f32());
        tracing::debug!(daemon, commands = commands.len(), ?manner, seconds, "told");
        Ok((verdicts, self.session.waited()))
    }

    /// Nothing, where it did not come to a transaction, or it was refused: one by one it is known which command that is.
    async fn as_transaction(&mut self, commands: &[Command], how: &Transaction) -> Result<Option<Verdicts>, VtyError> {
        // One that knows no such command says so; a lock that somebody else has is waited for.
        if !self.takes(how.enter, ANSWER).await? {
            return Ok(None);
        }
        if let Some(begin) = how.begin {
            self.session.ask(begin).await?;
        }
        let verdicts = self.in_turn(commands).await?;
        let taken = self.takes(how.commit, COMMIT).await?;
        if let (false, Some(abort)) = (taken, how.abort) {
            self.takes(abort, ANSWER).await?;
        }
        self.leave().await?;
        Ok(taken.then_some(verdicts))
    }

    async fn one_by_one(&mut self, commands: &[Command]) -> Result<Verdicts, VtyError> {
        self.session.ask(ENTER).await?;
        let verdicts = self.in_turn(commands).await?;
        self.leave().await?;
        Ok(verdicts)
    }

    async fn leave(&mut self) -> Result<(), VtyError> {
        self.open.clear();
        self.session.ask("end").await.map(drop)
    }

    /// Whether the daemon takes a command; that it refuses it is no error.
    async fn takes(&mut self, command: &str, limit: Duration) -> Result<bool, VtyError> {
        match self.session.ask_within(command, limit).await {
            Ok(_) => Ok(true),
            Err(error @ VtyError::Refused { .. }) => {
                tracing::debug!(%error, "refused");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn in_turn(&mut self, commands: &[Command]) -> Result<Verdicts, VtyError> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::frr::command::giving;
    use crate::frr::compare::Difference;
    use crate::frr::config::Config;
    use crate::frr::vty::Vty;

    /// Policy enough for a transaction, and a neighbor.
    fn text() -> String {
        let lists: String = (1..LEAST).map(|n| format!("ip prefix-list pl seq {n} permit 10.{n}.0.0/16\n")).collect();
        let neighbor = "router bgp 1\n neighbor dv.a interface remote-as internal\nexit\n";
        format!("{neighbor}{lists}route-map rm permit 2\n match ip address prefix-list pl\nexit\n")
    }

    fn commands(text: &str) -> Vec<Command> {
        giving(&Difference::between(&Config::parse(text), &Config::default()).missing)
    }

    type Heard = Arc<Mutex<Vec<String>>>;

    /// A daemon that refuses these commands.
    fn daemon(folder: &Path, name: &str, refuses: &'static [&'static str]) -> Heard {
        let listener = tokio::net::UnixListener::bind(folder.join(format!("{name}.vty"))).unwrap();
        let heard = Heard::default();
        let hears = heard.clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut command = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                if byte != 0 {
                    command.push(byte);
                    continue;
                }
                let words = String::from_utf8(std::mem::take(&mut command)).unwrap();
                let refused = refuses.contains(&words.as_str());
                stream.write_all(if refused { b"% no\0\0\0\x0d" } else { &[0; 4] }).await.unwrap();
                hears.lock().unwrap().push(words);
            }
        });
        heard
    }

    async fn told_in(manner: Manner, name: &str, refuses: &'static [&'static str]) -> (Vec<String>, Vec<Verdict>) {
        let folder = tempfile::tempdir().unwrap();
        let heard = daemon(folder.path(), name, refuses);
        let session = Vty::new(folder.path()).session(name).await.unwrap();
        let (verdicts, waited) = Teller::new(session).tell(&commands(&text()), manner).await.unwrap();
        assert!(!waited);
        let heard = heard.lock().unwrap().split_off(1);
        // One line stands for all entries of the list.
        let heard =
            heard.into_iter().filter(|command| !command.contains("prefix-list pl seq") || command.contains("seq 1 "));
        (heard.collect(), verdicts.into_iter().map(|(_, verdict)| verdict).collect())
    }

    async fn told(name: &str, refuses: &'static [&'static str]) -> (Vec<String>, Vec<Verdict>) {
        told_in(Manner::AtOnce, name, refuses).await
    }

    const POLICY: [&str; 3] =
        ["ip prefix-list pl seq 1 permit 10.1.0.0/16", "route-map rm permit 2", "match ip address prefix-list pl"];
    const NEIGHBOR: [&str; 4] =
        ["configure terminal", "router bgp 1", "neighbor dv.a interface remote-as internal", "end"];
    const ENDED: [&str; 3] = ["configure terminal", END, "end"];

    #[tokio::test]
    async fn much_policy_is_one_transaction_and_the_rest_is_not() {
        let (heard, verdicts) = told("bgpd", &[]).await;
        let before = ["configure terminal", "XFRR_start_configuration"];
        assert_eq!(heard, [&ENDED[..], &before, &POLICY, &[END, "end"], &NEIGHBOR].concat());
        assert!(verdicts.len() == LEAST + 3 && verdicts.iter().all(|verdict| *verdict == Verdict::Taken));
        let (heard, verdicts) = told("mgmtd", &[]).await;
        let before = ["configure terminal file-lock"];
        assert_eq!(heard, [&before[..], &POLICY, &["mgmt commit apply", "end"], &NEIGHBOR].concat());
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Taken));
    }

    #[tokio::test]
    async fn what_is_to_be_given_one_by_one_is_no_transaction() {
        let (heard, _) = told_in(Manner::OneByOne, "bgpd", &[]).await;
        assert_eq!(heard, [&ENDED[..], &["configure terminal"], &POLICY, &["end"], &NEIGHBOR].concat());
        let few = commands("ip prefix-list pl seq 1 permit 10.0.0.0/8\nip prefix-list pl seq 2 permit 10.0.0.0/8\n");
        assert_eq!(given_at_once(&few).count(), 0);
    }

    #[tokio::test]
    async fn a_transaction_that_is_refused_is_thrown_away_and_its_commands_are_given_one_by_one() {
        let (heard, verdicts) = told("mgmtd", &["mgmt commit apply", "match ip address prefix-list pl"]).await;
        let first = ["configure terminal file-lock"];
        let again = ["mgmt commit apply", "mgmt commit abort", "end", "configure terminal"];
        assert_eq!(heard, [&first[..], &POLICY, &again, &POLICY, &["end"], &NEIGHBOR].concat());
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Refused("% no".to_owned())).count(), 1);
    }

    #[tokio::test]
    async fn a_daemon_that_begins_no_transaction_is_given_commands_one_by_one() {
        let (heard, verdicts) = told("mgmtd", &["configure terminal file-lock"]).await;
        let asked = ["configure terminal file-lock", "configure terminal"];
        assert_eq!(heard, [&asked[..], &POLICY, &["end"], &NEIGHBOR].concat());
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Taken));
    }

    #[test]
    fn a_transaction_has_an_end_but_never_within_a_block() {
        let entry = |n: usize| format!("route-map rm permit {n}\n match ip address prefix-list pl\n set tag 1\nexit\n");
        let all = commands(&(1..=200).map(entry).collect::<String>());
        assert_eq!(all.len(), 600);
        let cut = parts(&all);
        assert_eq!(cut.iter().map(|part| part.len()).collect::<Vec<_>>(), [252, 252, 96]);
        assert!(cut.iter().all(|part| part[0].blocks.is_empty()));
        assert_eq!(given_at_once(&all).count(), 600);
        assert_eq!(parts(&[]), [&[][..]]);
    }
}
