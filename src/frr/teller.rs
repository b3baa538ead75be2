//! Commands for one of FRR's daemons, as few transactions as it takes, with a verdict on each.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::command::{Command, Verdict};
use super::config::Line;
use super::vty::{VtyError, VtySession};

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
    /// mgmtd (FRR 10) keeps what was not committed, and the next transaction, whosever it is, would take it along.
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
/// So many commands are one transaction at most: it is one answer, and that has a limit.
const MOST: usize = 500;

impl Teller {
    pub(super) fn new(session: VtySession) -> Self {
        Self { session, open: Vec::new() }
    }

    pub(super) async fn tell(mut self, commands: &[Command]) -> Result<Verdicts, VtyError> {
        let begin = Instant::now();
        let transaction = match self.session.daemon() {
            "mgmtd" => Transaction::MGMTD,
            _ => {
                // What somebody began who was killed: bgpd holds new sessions back until it ends, for ten minutes at most.
                self.session.ask(ENTER).await?;
                self.takes(END).await?;
                self.leave().await?;
                Transaction::OTHERS
            }
        };
        let mut verdicts = Vec::new();
        for alike in commands.chunk_by(|a, b| a.is_transactional() == b.is_transactional()) {
            for commands in alike.chunks(MOST) {
                let at_once = match commands {
                    [first, _, ..] if first.is_transactional() => self.at_once(commands, &transaction).await?,
                    _ => None,
                };
                verdicts.extend(match at_once {
                    Some(verdicts) => verdicts,
                    None => self.one_by_one(commands).await?,
                });
            }
        }
        let (daemon, seconds) = (self.session.daemon(), begin.elapsed().as_secs_f32());
        tracing::debug!(daemon, commands = commands.len(), seconds, "told");
        Ok(verdicts)
    }

    /// Nothing, where it did not come to a transaction, or it was refused: one by one it is known which command that is.
    async fn at_once(&mut self, commands: &[Command], how: &Transaction) -> Result<Option<Verdicts>, VtyError> {
        if !self.takes(how.enter).await? {
            return Ok(None);
        }
        if let Some(begin) = how.begin {
            self.session.ask(begin).await?;
        }
        let verdicts = self.in_turn(commands).await?;
        let taken = self.takes(how.commit).await?;
        if let (false, Some(abort)) = (taken, how.abort) {
            self.session.ask(abort).await?;
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

    async fn takes(&mut self, command: &str) -> Result<bool, VtyError> {
        match self.session.ask(command).await {
            Ok(_) => Ok(true),
            Err(error @ VtyError::Refused { .. }) => {
                tracing::debug!(%error, "commands are given one by one");
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

    const TEXT: &str = "router bgp 1
 neighbor dv.a interface remote-as internal
exit
ip prefix-list pl seq 1 permit 10.0.0.0/8
route-map rm permit 2
 match ip address prefix-list pl
exit
";

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

    async fn told(name: &str, refuses: &'static [&'static str]) -> (Vec<String>, Vec<Verdict>) {
        let folder = tempfile::tempdir().unwrap();
        let heard = daemon(folder.path(), name, refuses);
        let lines = Difference::between(&Config::parse(TEXT), &Config::default()).missing;
        let session = Vty::new(folder.path()).session(name).await.unwrap();
        let verdicts = Teller::new(session).tell(&giving(&lines)).await.unwrap();
        let heard = heard.lock().unwrap().split_off(1);
        (heard, verdicts.into_iter().map(|(_, verdict)| verdict).collect())
    }

    const POLICY: [&str; 3] =
        ["ip prefix-list pl seq 1 permit 10.0.0.0/8", "route-map rm permit 2", "match ip address prefix-list pl"];
    const NEIGHBOR: [&str; 4] =
        ["configure terminal", "router bgp 1", "neighbor dv.a interface remote-as internal", "end"];

    #[tokio::test]
    async fn policy_is_one_transaction_and_the_rest_is_not() {
        let (heard, verdicts) = told("bgpd", &[]).await;
        let before = ["configure terminal", END, "end", "configure terminal", "XFRR_start_configuration"];
        assert_eq!(heard, [&before[..], &POLICY, &[END, "end"], &NEIGHBOR].concat());
        assert_eq!(verdicts, vec![Verdict::Taken; 5]);
        let (heard, verdicts) = told("mgmtd", &[]).await;
        let before = ["configure terminal file-lock"];
        assert_eq!(heard, [&before[..], &POLICY, &["mgmt commit apply", "end"], &NEIGHBOR].concat());
        assert_eq!(verdicts, vec![Verdict::Taken; 5]);
    }

    #[tokio::test]
    async fn a_transaction_that_is_refused_is_thrown_away_and_its_commands_are_given_one_by_one() {
        let (heard, verdicts) = told("mgmtd", &["mgmt commit apply", "match ip address prefix-list pl"]).await;
        let first = ["configure terminal file-lock"];
        let again = ["mgmt commit apply", "mgmt commit abort", "end", "configure terminal"];
        assert_eq!(heard, [&first[..], &POLICY, &again, &POLICY, &["end"], &NEIGHBOR].concat());
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Refused("% no".to_owned())).count(), 1);
        let (heard, verdicts) = told("bgpd", &[END]).await;
        assert_eq!(heard.iter().filter(|command| *command == POLICY[0]).count(), 2, "{heard:?}");
        assert_eq!(verdicts, vec![Verdict::Taken; 5]);
    }

    #[tokio::test]
    async fn where_somebody_else_has_the_lock_commands_are_given_one_by_one() {
        let (heard, verdicts) = told("mgmtd", &["configure terminal file-lock"]).await;
        let first = ["configure terminal file-lock", "configure terminal"];
        assert_eq!(heard, [&first[..], &POLICY, &["end"], &NEIGHBOR].concat());
        assert_eq!(verdicts, vec![Verdict::Taken; 5]);
    }

    #[tokio::test]
    async fn no_transaction_is_longer_than_an_answer_may_take() {
        let folder = tempfile::tempdir().unwrap();
        let heard = daemon(folder.path(), "zebra", &[]);
        let text: String = (1..=1201).map(|n| format!("ip prefix-list pl seq {n} permit 10.0.0.0/8\n")).collect();
        let lines = Difference::between(&Config::parse(&text), &Config::default()).missing;
        let session = Vty::new(folder.path()).session("zebra").await.unwrap();
        assert_eq!(Teller::new(session).tell(&giving(&lines)).await.unwrap().len(), 1201);
        let heard = heard.lock().unwrap();
        assert_eq!(heard.iter().filter(|command| *command == "XFRR_start_configuration").count(), 3);
        assert_eq!(heard.iter().filter(|command| command.contains("prefix-list")).count(), 1201);
    }
}
