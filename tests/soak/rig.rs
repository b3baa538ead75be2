//! A node that a long test drives: what it costs the node to be asked is kept small, because a run is to be the most of it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lab::{Node, Output};
use crate::objects::{Vrfs, manifests, operator_file};

/// For one change set, on a machine with other work to do.
const LIMIT: Duration = Duration::from_secs(180);

/// The file of the objects.
pub const OBJECTS: &str = "/etc/network-operator/manifests/soak.yaml";

/// Shell text that starts the agent, outside systemd, which would take longer. Its process number is in /run/soak.pid.
pub fn start(debounce: &str) -> String {
    format!(
        "NODE_NAME=node-1 RUST_LOG=network_operator=debug setsid /lab/network-operator run \
         --manifests /etc/network-operator/manifests --debounce {debounce} </dev/null >>/lab/agent.log 2>&1 &
echo $! >/run/soak.pid"
    )
}

/// The window where one file changes.
pub const WINDOW: &str = "100ms";

/// The agent's log as a file that both sides have. To ask the node's journal takes it a quarter of a second each time.
pub struct AgentLog {
    path: PathBuf,
    read: usize,
    /// Lines with the level ERROR, where they are not the end of the test.
    pub errors: Vec<String>,
    on_error: OnError,
}

/// What becomes of the test where the agent says ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    Fail,
    Note,
}

impl AgentLog {
    /// The log of the agent in a node, from here on.
    pub fn of(node: &Node, on_error: OnError) -> Self {
        let path = node.share("agent.log");
        let read = fs::read(&path).map_or(0, |text| text.len());
        Self { path, read, errors: Vec::new(), on_error }
    }

    /// Waits for a line that has one of the texts in it.
    pub fn wait(&mut self, node: &Node, texts: &[&str]) -> String {
        let begin = Instant::now();
        loop {
            while let Some(line) = self.next_line(node) {
                if texts.iter().any(|text| line.contains(text)) {
                    return line;
                }
            }
            let words = || format!("no {texts:?} within {LIMIT:?}; {}\n{}", node.evidence(), self.tail());
            assert!(begin.elapsed() < LIMIT, "{}", words());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Passes over what was said so far: it is no answer to what comes.
    pub fn skip(&mut self, node: &Node) {
        while self.next_line(node).is_some() {}
    }

    /// Whether one of the texts was said since the last question.
    pub fn has(&mut self, node: &Node, texts: &[&str]) -> bool {
        let mut found = false;
        while let Some(line) = self.next_line(node) {
            found |= texts.iter().any(|text| line.contains(text));
        }
        found
    }

    fn next_line(&mut self, node: &Node) -> Option<String> {
        let log = fs::read(&self.path).unwrap_or_default();
        let length = log.get(self.read..)?.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&log[self.read..self.read + length]).into_owned();
        self.read += length + 1;
        if line.contains(" ERROR ") {
            assert!(self.on_error == OnError::Note, "the agent says: {line}\n{}", node.evidence());
            self.errors.push(line.clone());
        }
        Some(line)
    }

    /// The last lines, with a heading.
    pub fn tail(&self) -> String {
        let log = fs::read(&self.path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        format!("the agent's log ends with\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
    }
}

/// What a look at the node shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Look {
    /// Reloads of frr.service since the last look.
    pub reloads: usize,
    /// Process numbers of bgpd and zebra.
    pub daemons: String,
    /// Links with names of ours.
    pub links: Vec<String>,
}

/// Links that a set of VRFs has.
pub fn links_of(vrfs: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    let names = vrfs.into_iter().flat_map(|vrf| ["br", "dv", "vd", "vr", "vx"].map(|role| format!("{role}.{vrf}")));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

impl Node {
    /// Gives the node a copy of the agent: a build in the hour of a long test replaces the one in /labbin.
    pub fn take_agent(&self) {
        fs::copy(env!("CARGO_BIN_EXE_network-operator"), self.share("network-operator")).unwrap();
    }

    /// Writes the objects of the folder in one step.
    pub fn set_objects(&self, vrfs: &Vrfs) {
        self.ok(&replace(OBJECTS, &manifests(vrfs)));
    }

    /// Writes the operator file in one step.
    pub fn set_operator_file(&self, vrfs: &Vrfs) {
        self.ok(&replace("/opt/network-operator/config.yaml", &operator_file(vrfs)));
    }

    /// Looks, in one command.
    pub fn look(&self) -> Look {
        let seen = self.ok(
            "journalctl --cursor-file=/run/soak.cursor -o cat --no-pager _PID=1 UNIT=frr.service | grep -c '^Reloading'
             echo $(</run/frr/bgpd.pid) $(</run/frr/zebra.pid)
             shopt -s nullglob; cd /sys/class/net; echo {vr,br,vx,vd,dv}.*",
        );
        let mut lines = seen.lines();
        let mut next = || lines.next().unwrap_or_else(|| panic!("a look shows only {seen:?}")).trim();
        let (reloads, daemons) = (next().parse().unwrap(), next().to_owned());
        let mut links: Vec<String> =
            next().split_whitespace().filter(|name| *name != "br.others").map(str::to_owned).collect();
        links.sort();
        Look { reloads, daemons, links }
    }

    /// What FRR said when it went wrong, for the message of a failed test.
    pub fn evidence(&self) -> String {
        let Output { stdout, .. } = self.run(
            "journalctl -u frr -o short-precise --no-pager -n 90; journalctl -k --no-pager | grep -iE 'segfault|killed|oom' | tail -n 20; tail -n 30 /lab/watch.log; journalctl -u network-operator -o cat --no-pager | tail -n 40",
        );
        format!("frr.service:\n{stdout}")
    }

    /// Watches zebra from now on for VNIs that it takes for layer-2 ones.
    pub fn watch_vnis(&self) {
        fs::write(self.share("watch.py"), include_str!("watch.py")).unwrap();
        self.ok("touch /run/soak.watch; setsid python3 /lab/watch.py >/lab/watch.log 2>&1 </dev/null &");
        self.wait("the watch begins", Duration::from_secs(60), |node| match node.watched() {
            (0, _) => Err("nothing".to_owned()),
            _ => Ok(()),
        });
    }

    /// How often zebra was asked, and what was seen that must not be.
    pub fn watched(&self) -> (usize, Vec<String>) {
        let log = fs::read_to_string(self.share("watch.log")).unwrap_or_default();
        let (polls, seen): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with("POLLS "));
        let polls = polls.last().map_or(0, |line| line["POLLS ".len()..].parse().unwrap());
        (polls, seen.into_iter().map(str::to_owned).collect())
    }
}

/// Shell text that writes a file in one step, which is one event to whoever watches its folder.
pub fn replace(path: &str, text: &str) -> String {
    format!("cat >/srv/soak.new <<'SOAK'\n{text}SOAK\nmv /srv/soak.new {path}")
}
