//! FRR's own syntax check of a file, `vtysh -C`, as a transient unit of the node's systemd: so it works from a container.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zbus::Variant;

use super::secret::hidden;
use crate::systemd::Systemd;

/// `vtysh -C` takes a tenth of a second for 4,000 lines; the limit is for a node that is out of breath.
const LIMIT: Duration = Duration::from_secs(60);
/// Where Debian and FRR's own packages have it.
const VTYSH: &str = "/usr/bin/vtysh";

/// A line that FRR does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    /// Line of the checked file, from 1.
    pub number: usize,
    /// The line, without secrets.
    pub text: String,
    /// FRR's words.
    pub words: String,
}

/// The check could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No bus, or systemd refused the unit.
    #[error("run `vtysh -C -f {file}` as a unit of systemd")]
    Systemd {
        /// What was to be checked.
        file: PathBuf,
        /// What happened.
        #[source]
        source: zbus::Error,
    },
    /// No end in time.
    #[error("`vtysh -C -f {file}` did not end within {}s", LIMIT.as_secs())]
    Slow {
        /// What was to be checked.
        file: PathBuf,
    },
    /// It failed, and named no line.
    #[error("`vtysh -C -f {file}` failed without naming a line (is {VTYSH} there? see `journalctl -u {unit}`): {said}")]
    Failed {
        /// What was to be checked.
        file: PathBuf,
        /// The unit that ran it.
        unit: String,
        /// What it said.
        said: String,
    },
    /// What it said cannot be read.
    #[error("read what `vtysh -C` said from {path}")]
    Read {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Lines of a file that FRR does not take; none where it takes all. What they mean is not looked at: a VNI that is given twice passes.
///
/// # Errors
/// No answer could be had.
pub async fn refused_lines(file: &Path) -> Result<Vec<RefusedLine>, CheckError> {
    let answer = file.with_added_extension("check");
    let unit = format!("network-operator-check-{}.service", std::process::id());
    let lines = run(file, &answer, &unit).await;
    let _ = std::fs::remove_file(&answer);
    lines
}

async fn run(file: &Path, answer: &Path, unit: &str) -> Result<Vec<RefusedLine>, CheckError> {
    let failed = |source| CheckError::Systemd { file: file.to_owned(), source };
    let (path, log) = (file.display().to_string(), answer.display().to_string());
    let limit = u64::try_from(LIMIT.as_micros()).unwrap_or(u64::MAX);
    let properties = [
        ("Description", Variant::from("Syntax check of FRR's new configuration")),
        ("Type", Variant::from("oneshot")),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("TimeoutStartUSec", Variant::from(limit)),
        ("StandardErrorFileToTruncate", Variant::from(log)),
        ("ExecStart", Variant::from(vec![(VTYSH, vec!["vtysh", "-C", "-f", path.as_str()], false)])),
    ];
    let systemd = Systemd::connect().await.map_err(failed)?;
    let result = systemd.run(unit, &properties, LIMIT).await.map_err(failed)?;
    match result.as_deref() {
        None => return Err(CheckError::Slow { file: file.to_owned() }),
        Some("done") => return Ok(Vec::new()),
        Some(_) => {}
    }
    let read = |source| CheckError::Read { path: answer.to_owned(), source };
    let said = match std::fs::read(answer) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(read(error)),
    };
    let lines = parse(&said);
    if lines.is_empty() {
        return Err(CheckError::Failed {
            file: file.to_owned(),
            unit: unit.to_owned(),
            said: hidden(said.trim()).into_owned(),
        });
    }
    Ok(lines)
}

/// `line 4: % Unknown command[28]:  neighbr 192.0.2.1 remote-as 1` (vtysh, `vtysh_read_config`).
fn parse(said: &str) -> Vec<RefusedLine> {
    let line = |line: &str| {
        let (number, rest) = line.strip_prefix("line ")?.split_once(": ")?;
        let (words, text) = rest.split_once(':')?;
        let words = words.trim_start_matches("% ").split('[').next()?;
        Some(RefusedLine {
            number: number.parse().ok()?,
            text: hidden(text.trim()).into_owned(),
            words: words.to_owned(),
        })
    };
    said.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vtyshs_words_are_taken_apart() {
        let said = "line 4: % Unknown command[28]:  neighbr 1.2.3.4 remote-as 1\nline 10: % Ambiguous command[7]:  match ipv6: x\n\
                    Configuration file[/etc/frr/frr.conf] processing failure: 2\n";
        let line = |number, words: &str, text: &str| RefusedLine { number, text: text.into(), words: words.into() };
        assert_eq!(
            parse(said),
            [line(4, "Unknown command", "neighbr 1.2.3.4 remote-as 1"), line(10, "Ambiguous command", "match ipv6: x")]
        );
    }
}
