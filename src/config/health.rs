//! The health file: what must hold on a node before it is given work, and while it has some.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer};

use super::yaml;

/// The health file, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HealthConfig {
    /// `interfaces`: links that must be operationally up.
    pub interfaces: Vec<Pattern>,
    /// `reachability`: what must accept a TCP connection, or refuse one.
    pub reachability: Vec<Target>,
    /// `timeout`: how long one attempt to connect may take, its name resolved.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// `retries`: attempts before a target counts as not reachable, at least one.
    #[serde(deserialize_with = "count")]
    pub retries: u32,
    /// `bgpNeighbors`: neighbors of any BGP instance whose session must be established, by the names that FRR gives them.
    pub bgp_neighbors: Vec<Pattern>,
    /// `interval`, a second at least: how long between two rounds of checks once all have passed.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// `failures`: rounds in a row that must fail before a node that was ready is not.
    #[serde(deserialize_with = "count")]
    pub failures: u32,
    /// `taints`: keys of taints that are removed from the node once all checks pass.
    pub taints: BTreeSet<String>,
    /// `taintWhenUnready`: whether a node that was ready and is not gets a taint of ours (`NoSchedule`).
    pub taint_when_unready: bool,
}

/// A name, or a glob of names.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.chars().any(char::is_whitespace) {
            return Err(serde::de::Error::custom(format!("{text:?} is no name, nor a glob of names such as \"eth*\"")));
        }
        let glob = GlobBuilder::new(&text).build().map_err(serde::de::Error::custom)?;
        Ok(Self(glob.compile_matcher()))
    }
}

/// A host and one of its TCP ports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A host name or an address.
    pub host: String,
    /// 1 to 65535.
    pub port: std::num::NonZeroU16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why a health file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HealthConfigError {
    /// It cannot be read.
    #[error("read health file {path}: create it, or name another one in OPERATOR_NETHEALTHCHECK_CONFIG")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It is not what is expected: the message has line, column and the known keys.
    #[error("health file {path}: {message}")]
    Syntax {
        /// Which one.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
}

/// Taints by which a cluster keeps work away from a node until its network is there.
const TAINTS: [&str; 2] = ["node.cloudprovider.kubernetes.io/uninitialized", "node.schiff.telekom.de/uninitialized"];

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            reachability: Vec::new(),
            timeout: Duration::from_secs(3),
            retries: 3,
            bgp_neighbors: Vec::new(),
            interval: Duration::from_secs(30),
            failures: 3,
            taints: TAINTS.map(str::to_owned).into(),
            taint_when_unready: false,
        }
    }
}

impl HealthConfig {
    /// Reads and checks the health file; nothing where there is none.
    ///
    /// # Errors
    /// It cannot be read, or says what is not understood.
    pub fn load(path: &Path) -> Result<Option<Self>, HealthConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HealthConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Checks the text of a health file; `path` is for messages.
    ///
    /// # Errors
    /// It says what is not understood.
    pub fn parse(text: &str, path: &Path) -> Result<Self, HealthConfigError> {
        // Nothing but comments is YAML's null.
        let config: Option<Self> =
            yaml(text).map_err(|message| HealthConfigError::Syntax { path: path.to_owned(), message })?;
        Ok(config.unwrap_or_default())
    }
}

/// `5s`, `1m30s`, or a bare number of seconds; above zero and up to an hour.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }
    const LONGEST: Duration = Duration::from_secs(3600);
    let (words, read) = match Written::deserialize(deserializer)? {
        Written::Seconds(seconds) => (seconds.to_string(), Duration::try_from_secs_f64(seconds).ok()),
        Written::Text(text) => {
            let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let signed = || text.parse::<jiff::SignedDuration>().ok().and_then(|signed| signed.try_into().ok());
            (text.clone(), seconds.or_else(signed))
        }
    };
    read.filter(|read| !read.is_zero() && *read <= LONGEST).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "{words:?} is no duration of up to an hour: write 5s, 500ms, 1m or seconds as a number"
        ))
    })
}

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let read = duration(deserializer)?;
    if read < Duration::from_secs(1) {
        return Err(serde::de::Error::custom(format!("{read:?} is too short: rounds are a second apart at least")));
    }
    Ok(read)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let count = u32::deserialize(deserializer)?;
    if (1..=1000).contains(&count) {
        return Ok(count);
    }
    Err(serde::de::Error::custom(format!("{count} is not between 1 and 1000")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HealthConfig, String> {
        HealthConfig::parse(text, Path::new("h.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_of_the_go_operator_is_read_as_it_is() {
        let config = parse(
            "interfaces:\n- eth0\nreachability:\n- host: \"host.domain.com\"\n  port: 80\n- host: \"192.168.1.100\"\n  port: 8400\ntimeout: 5s\nretries: 10\n",
        )
        .unwrap();
        assert_eq!(config.interfaces.iter().map(ToString::to_string).collect::<Vec<_>>(), ["eth0"]);
        let targets: Vec<String> = config.reachability.iter().map(ToString::to_string).collect();
        assert_eq!(targets, ["host.domain.com:80", "192.168.1.100:8400"]);
        assert_eq!((config.timeout, config.retries), (Duration::from_secs(5), 10));
    }

    #[test]
    fn what_is_not_said_is_the_default_and_an_empty_file_says_nothing() {
        for text in ["", "# nothing\n", "{}"] {
            let config = parse(text).unwrap();
            assert_eq!((config.timeout, config.retries), (Duration::from_secs(3), 3), "{text:?}");
            assert!(config.taints.contains("node.schiff.telekom.de/uninitialized") && !config.taint_when_unready);
        }
    }

    #[test]
    fn durations_are_words_or_seconds() {
        for (text, millis) in
            [("5s", 5000), ("5", 5000), ("0.5", 500), ("\"2\"", 2000), ("1m30s", 90_000), ("500ms", 500)]
        {
            let config = parse(&format!("timeout: {text}")).unwrap();
            assert_eq!(config.timeout, Duration::from_millis(millis), "{text}");
        }
        for text in ["0", "-1s", "soon", "2h"] {
            assert!(parse(&format!("timeout: {text}")).unwrap_err().contains("no duration"), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        for (text, word) in [
            ("interfaces: [eth0]\ninterface: [eth1]", "line 2"),
            ("retries: 0", "between 1 and 1000"),
            ("reachability: [{host: a, port: 0}]", "line 1"),
            ("interfaces: [\"eth[\"]", "eth["),
            ("interfaces: [\"eth0 eth1\"]", "no name"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word) && error.contains("h.yaml"), "{text}: {error}");
        }
    }

    #[test]
    fn a_glob_stands_for_names_and_a_name_for_itself() {
        let config = parse("interfaces: [eth0, \"ens*\", \"bond[01]\"]").unwrap();
        let matched = |name: &str| config.interfaces.iter().filter(|pattern| pattern.matches(name)).count();
        assert_eq!(["eth0", "eth01", "ens3f0", "bond1", "bond2"].map(matched), [1, 0, 1, 1, 0]);
    }
}
