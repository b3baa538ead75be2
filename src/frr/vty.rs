//! FRR's daemons over their vty sockets: what `vtysh` does, without a process.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::secret::hidden;

/// How long an answer may take, if nothing else is said.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// `CMD_SUCCESS` of FRR's lib/command.h.
const SUCCESS: u8 = 0;
/// `CMD_ERR_NO_MATCH`, `CMD_ERR_AMBIGUOUS`, `CMD_ERR_INCOMPLETE`: the daemon has no such command.
const NO_COMMAND: [u8; 3] = [2, 3, 4];
/// How long somebody else may have a daemon's configuration, such as a `vtysh -b` that loads frr.conf into mgmtd.
const LOCK: Duration = Duration::from_secs(60);
/// Until it is asked for again, as `vtysh -f` does: no daemon tells when it is free.
const LOCK_AGAIN: Duration = Duration::from_millis(100);
/// Until a connection is asked for again where the daemon's queue is full (`listen(sock, 5)` of FRR's lib/vty.c): the kernel does not
/// tell when it has room.
const QUEUE_AGAIN: Duration = Duration::from_millis(100);
/// How what a daemon says then begins: `vty_mgmt_send_config_data` and `vty_config_enter` of FRR's lib/vty.c,
/// `nb_transaction_process` of its lib/northbound.c.
const LOCKED: [&str; 4] = [
    "% command failed, could not lock ",
    "% Can't enter config; candidate datastore locked ",
    "% Can't enter config; running datastore locked ",
    "Error description: running configuration is locked by another client",
];

/// The sockets under `/run/frr`.
#[derive(Debug, Clone)]
pub struct Vty {
    folder: PathBuf,
}

/// A daemon that did not answer, or not as it should.
#[derive(Debug, thiserror::Error)]
pub enum VtyError {
    /// No connection.
    #[error("ask {daemon} over {path}: is frr.service running, and is its runtime folder mounted here?")]
    Io {
        /// The daemon.
        daemon: String,
        /// Its socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// So many wait for the daemon that it has no room for another connection.
    #[error("{daemon} took no connection within {}s: it is stopped, or busy", limit.as_secs())]
    Full {
        /// The daemon.
        daemon: String,
        /// How long it had.
        limit: Duration,
    },
    /// No answer in time.
    #[error("{daemon} did not answer `{command}` within {}s", limit.as_secs())]
    Slow {
        /// The daemon.
        daemon: String,
        /// What was asked.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// The daemon does not take the command. Command and answer are without secrets, here and below.
    #[error("{daemon} refused `{command}`: {answer}")]
    Refused {
        /// The daemon.
        daemon: String,
        /// What was asked.
        command: String,
        /// Its words.
        answer: String,
        /// Whether it knows the command at all.
        known: bool,
    },
    /// Another session has the daemon's configuration, which says nothing about the command.
    #[error(
        "{daemon} cannot be told `{command}`: another session has its configuration locked, such as a vtysh that reads a file; it \
         is waited for ({}s) where that is possible: {answer}",
        LOCK.as_secs()
    )]
    Locked {
        /// The daemon.
        daemon: String,
        /// What was asked.
        command: String,
        /// Its words.
        answer: String,
    },
}

impl VtyError {
    /// Whether the socket is only what a daemon left behind.
    pub fn nobody_listens(&self) -> bool {
        let kinds = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }
}

/// One session with a daemon.
#[derive(Debug)]
pub struct VtySession {
    daemon: String,
    path: PathBuf,
    stream: UnixStream,
    /// Whether it had to wait for a lock.
    waited: bool,
}

impl Default for Vty {
    fn default() -> Self {
        Self { folder: PathBuf::from("/run/frr") }
    }
}

impl Vty {
    /// Sockets in another folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Opens a session, in enable mode.
    ///
    /// # Errors
    /// The daemon does not run, or does not answer.
    pub async fn session(&self, daemon: &str) -> Result<VtySession, VtyError> {
        let mut session = self.viewer(daemon).await?;
        session.ask("enable").await?;
        Ok(session)
    }

    /// Opens a session, in view mode: all `show` commands but `show running-config`. Nothing is asked of the daemon yet.
    ///
    /// # Errors
    /// The daemon does not run, or takes no connection.
    pub async fn viewer(&self, daemon: &str) -> Result<VtySession, VtyError> {
        let path = self.folder.join(format!("{daemon}.vty"));
        let daemon = daemon.to_owned();
        match tokio::time::timeout(ANSWER, connect(&path)).await {
            Ok(Ok(stream)) => Ok(VtySession { daemon, path, stream, waited: false }),
            Ok(Err(source)) => Err(VtyError::Io { daemon, path, source }),
            Err(_) => Err(VtyError::Full { daemon, limit: ANSWER }),
        }
    }

    /// Whether the daemon listens, be it too busy to answer.
    ///
    /// # Errors
    /// Its socket cannot be asked.
    pub async fn listens(&self, daemon: &str) -> Result<bool, VtyError> {
        let path = self.folder.join(format!("{daemon}.vty"));
        match UnixStream::connect(&path).await {
            Ok(_) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(source) => {
                let error = VtyError::Io { daemon: daemon.to_owned(), path, source };
                if error.nobody_listens() { Ok(false) } else { Err(error) }
            }
        }
    }

    /// Asks one question, in view mode.
    ///
    /// # Errors
    /// As [`Vty::viewer`], or the daemon does not answer, or refuses the command.
    pub async fn ask(&self, daemon: &str, command: &str) -> Result<String, VtyError> {
        self.viewer(daemon).await?.ask(command).await
    }

    /// The folder of the sockets.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl VtySession {
    /// Whose session it is.
    pub fn daemon(&self) -> &str {
        &self.daemon
    }

    /// Whether another session has had the configuration locked. One that ends throws away what was not committed yet, also of ours: what
    /// was given is known to be there only where it is shown.
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// Sends a command and gives the answer. A lock that another session has on the configuration is waited for.
    ///
    /// # Errors
    /// The daemon is gone, too slow, refuses the command, or its configuration stays locked.
    pub async fn ask(&mut self, command: &str) -> Result<String, VtyError> {
        self.ask_within(command, ANSWER).await
    }

    /// The same for what may take longer, or must not.
    ///
    /// # Errors
    /// As [`VtySession::ask`].
    pub async fn ask_within(&mut self, command: &str, limit: Duration) -> Result<String, VtyError> {
        let end = Instant::now() + LOCK;
        loop {
            let (answer, status) = self.ask_once(command, limit).await?;
            let locked = !NO_COMMAND.contains(&status) && is_locked(&answer);
            if !locked && status == SUCCESS {
                return Ok(answer);
            }
            let [command, answer] = [command, answer.trim()].map(|text| hidden(text).into_owned());
            let daemon = self.daemon.clone();
            if !locked {
                return Err(VtyError::Refused { daemon, command, answer, known: !NO_COMMAND.contains(&status) });
            }
            self.waited = true;
            // A command that was locked out of its block is tried in those around it (`cmd_execute_command` of FRR's lib/command.c). Where
            // one of them took it, the session stands there now.
            if status == SUCCESS || Instant::now() >= end {
                return Err(VtyError::Locked { daemon, command, answer });
            }
            tokio::time::sleep(LOCK_AGAIN).await;
        }
    }

    /// The answer and its status.
    async fn ask_once(&mut self, command: &str, limit: Duration) -> Result<(String, u8), VtyError> {
        let answer = tokio::time::timeout(limit, self.exchange(command)).await;
        let slow = || VtyError::Slow { daemon: self.daemon.clone(), command: hidden(command).into_owned(), limit };
        let exchanged = answer.map_err(|_| slow())?;
        exchanged.map_err(|source| VtyError::Io { daemon: self.daemon.clone(), path: self.path.clone(), source })
    }

    /// The command ends with a zero byte; the answer with three of them and the status (lib/vty.c, `vtysh_read`).
    async fn exchange(&mut self, command: &str) -> io::Result<(String, u8)> {
        self.stream.write_all(format!("{command}\0").as_bytes()).await?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = self.stream.read(&mut buffer).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend(buffer.iter().take(count));
            if let [.., 0, 0, 0, status] = *answer {
                answer.truncate(answer.len() - 4);
                let text = String::from_utf8(answer);
                let text = text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
                return Ok((text, status));
            }
        }
    }
}

/// Waits for a place in the queue of who listens: connections that were given up keep theirs until they are taken, and a full queue is
/// EAGAIN to a socket that does not block (`unix_stream_connect` of net/unix/af_unix.c).
async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(QUEUE_AGAIN).await,
            connected => return connected,
        }
    }
}

fn is_locked(answer: &str) -> bool {
    answer.lines().any(|line| LOCKED.iter().any(|begin| line.starts_with(begin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that answers in pieces, as a socket may.
    async fn daemon(folder: &Path, pieces: Vec<&'static [u8]>) -> tokio::task::JoinHandle<()> {
        let listener = tokio::net::UnixListener::bind(folder.join("zebra.vty")).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 100];
            let _ = stream.read(&mut buffer).await.unwrap();
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let _daemon = daemon(folder.path(), vec![b"one ", b"two\n\0", b"\0\0", b"\0"]).await;
        assert_eq!(Vty::new(folder.path()).ask("zebra", "show version").await.unwrap(), "one two\n");
    }

    #[tokio::test]
    async fn a_refused_command_is_an_error_with_the_daemons_words() {
        let folder = tempfile::tempdir().unwrap();
        let _daemon = daemon(folder.path(), vec![b"% Unknown command: x\n\0\0\0\x02"]).await;
        let error = Vty::new(folder.path()).ask("zebra", "x").await.unwrap_err().to_string();
        assert!(error.contains("Unknown command"), "{error}");
    }

    const NO_LOCK: &[u8] = b"% command failed, could not lock candidate DS\n\0\0\0\xff";

    /// A daemon whose configuration somebody else has until it was asked so often.
    async fn locked(folder: &Path, until: usize, words: &'static [u8]) -> Result<String, VtyError> {
        let listener = tokio::net::UnixListener::bind(folder.join("mgmtd.vty")).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut buffer, mut asked) = ([0; 100], 0);
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                asked += 1;
                let locked = (2..=until).contains(&asked);
                stream.write_all(if locked { words } else { &[0; 4] }).await.unwrap();
            }
        });
        Vty::new(folder).session("mgmtd").await?.ask("ip prefix-list a permit any").await
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_waited_for_and_is_no_word_about_the_command() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(locked(folder.path(), 500, NO_LOCK).await.unwrap(), "");
        let folder = tempfile::tempdir().unwrap();
        let error = locked(folder.path(), usize::MAX, NO_LOCK).await.unwrap_err();
        assert!(matches!(error, VtyError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("could not lock candidate DS"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_was_locked_out_of_its_block_is_not_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let taken_outside =
            b"% command failed, could not lock candidate DS\n% Refusing to remove a non-existent route\n\0\0\0\0";
        assert!(matches!(locked(folder.path(), 2, taken_outside).await, Err(VtyError::Locked { .. })));
    }

    #[tokio::test]
    async fn words_of_the_command_are_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let echo = b"% [ZEBRA] Unknown command: description % command failed, could not lock it\n\0\0\0\x02";
        assert!(matches!(locked(folder.path(), 2, echo).await, Err(VtyError::Refused { known: false, .. })));
    }

    /// A daemon whose queue has one place, which somebody who gave up has taken.
    async fn full(folder: &Path) -> (tokio::net::UnixListener, Vty) {
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(folder.join("staticd.vty")).unwrap();
        let (listener, vty) = (socket.listen(0).unwrap(), Vty::new(folder));
        drop(vty.viewer("staticd").await.unwrap());
        (listener, vty)
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (listener, vty) = full(folder.path()).await;
        let daemon = tokio::spawn(async move {
            tokio::time::sleep(ANSWER / 2).await;
            let _given_up = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 100]).await.unwrap();
            stream.write_all(b"here\n\0\0\0\0").await.unwrap();
        });
        assert_eq!(vty.ask("staticd", "show version").await.unwrap(), "here\n");
        daemon.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_whose_queue_stays_full_is_named_as_one_that_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let (_listener, vty) = full(folder.path()).await;
        assert!(vty.listens("staticd").await.unwrap() && !vty.listens("zebra").await.unwrap());
        let error = vty.ask("staticd", "show version").await.unwrap_err();
        assert!(!error.nobody_listens());
        assert_eq!(error.to_string(), "staticd took no connection within 30s: it is stopped, or busy");
    }

    #[tokio::test]
    async fn a_daemon_that_ends_or_does_not_run_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let _daemon = daemon(folder.path(), vec![b"half"]).await;
        assert!(matches!(Vty::new(folder.path()).ask("zebra", "x").await, Err(VtyError::Io { .. })));
        assert!(matches!(Vty::new(folder.path()).ask("bgpd", "x").await, Err(VtyError::Io { .. })));
    }
}
