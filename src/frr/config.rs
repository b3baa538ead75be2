//! FRR's configuration text as lines with the blocks that they stand in. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::secret::hidden;
use super::spelling;

/// One line of configuration. Two texts mean the same where their sets of lines are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// The lines that open the blocks around it, outermost first.
    pub blocks: Arc<[String]>,
    /// The line, in the spelling that FRR prints.
    pub text: String,
}

impl Line {
    /// Tells it from all others, secrets and all: for what is kept, not for what is told.
    pub fn key(&self) -> String {
        self.blocks.iter().chain([&self.text]).map(String::as_str).collect::<Vec<_>>().join(" / ")
    }

    /// Whether the line opens a block: an entry of a route-map or an instance of BGP is one also without a line in it.
    pub fn opens_block(&self) -> bool {
        let words: Vec<&str> = self.text.split(' ').collect();
        opens(&self.blocks, &words)
    }

    /// Whether it is routing policy: every daemon may print it, and each has a part of it.
    pub fn is_policy(&self) -> bool {
        let outermost = self.blocks.first().unwrap_or(&self.text);
        let words: Vec<&str> = outermost.split(' ').collect();
        matches!(
            words.as_slice(),
            ["route-map", ..]
                | ["ip" | "ipv6", "prefix-list", ..]
                | ["bgp", "as-path" | "community-list" | "extcommunity-list" | "large-community-list", ..]
        )
    }

    /// The block that the line opens: what the lines in it have as `blocks`.
    pub fn inner(&self) -> Arc<[String]> {
        self.blocks.iter().chain([&self.text]).cloned().collect()
    }
}

impl fmt::Display for Line {
    /// `router bgp 64510 / address-family ipv4 unicast / redistribute static`, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for block in self.blocks.iter() {
            write!(f, "{block} / ")?;
        }
        f.write_str(&hidden(&self.text))
    }
}

/// A configuration, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// In the order of the text, each line once.
    lines: Vec<Line>,
}

impl Config {
    /// Reads frr.conf, or what `show running-config` prints.
    ///
    /// Comments go, blocks are closed where FRR closes them, also without a word, and each line is written as FRR prints it
    /// (see `frr::spelling`). Nothing is an error: what is no configuration is a line that FRR will not show.
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.finish()
    }

    /// The lines, in the order of the text.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What several daemons print, as one configuration. Each prints what it knows; routing policy counts as `authority` has
    /// it, because that is the daemon which goes by it.
    pub fn merge(daemons: &BTreeMap<String, Self>, authority: &str) -> Self {
        let mut seen = BTreeSet::new();
        let mut lines = Vec::new();
        for (daemon, config) in daemons {
            let counts = |line: &&Line| daemon == authority || !line.is_policy();
            lines.extend(config.lines.iter().filter(counts).filter(|line| seen.insert(*line)).cloned());
        }
        Self { lines }
    }

    /// The VRFs that have a stanza.
    pub fn vrf_stanzas(&self) -> BTreeSet<&str> {
        let top = self.lines.iter().filter(|line| line.blocks.is_empty());
        top.filter_map(|line| line.text.strip_prefix("vrf ")).collect()
    }
}

impl FromIterator<Line> for Config {
    fn from_iter<I: IntoIterator<Item = Line>>(lines: I) -> Self {
        Self { lines: lines.into_iter().collect() }
    }
}

impl fmt::Display for Config {
    /// As FRR would read it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut open: &[String] = &[];
        for line in &self.lines {
            let common = open.iter().zip(line.blocks.iter()).take_while(|(a, b)| a == b).count();
            for depth in (common..open.len()).rev() {
                writeln!(f, "{:depth$}{}", "", closing(open.get(depth).map_or("", String::as_str)))?;
            }
            for (depth, block) in line.blocks.iter().enumerate().skip(common) {
                writeln!(f, "{:depth$}{block}", "")?;
            }
            let depth = line.blocks.len();
            writeln!(f, "{:depth$}{}", "", line.text)?;
            open = &line.blocks;
            if line.opens_block() {
                writeln!(f, "{:depth$}{}", "", closing(&line.text))?;
            }
        }
        for depth in (0..open.len()).rev() {
            writeln!(f, "{:depth$}{}", "", closing(open.get(depth).map_or("", String::as_str)))?;
        }
        Ok(())
    }
}

fn closing(block: &str) -> &'static str {
    match block.split(' ').next() {
        Some("address-family") => "exit-address-family",
        Some("vrf") => "exit-vrf",
        Some("vni") => "exit-vni",
        _ => "exit",
    }
}

/// Whether a line opens a block where it stands (the nodes of FRR's lib/command.h that a configuration enters).
fn opens(blocks: &[String], words: &[&str]) -> bool {
    let inside: Vec<&str> = blocks.last().map(|block| block.split(' ').collect()).unwrap_or_default();
    matches!(
        (inside.as_slice(), words),
        ([], ["router", _, ..])
            | ([], ["vrf" | "interface" | "pbr-map" | "nexthop-group", _, ..])
            | ([], ["route-map", _, "permit" | "deny", _])
            | ([], ["line", "vty"] | ["bfd"] | ["segment-routing"] | ["mpls", "ldp"] | ["key", "chain", _])
            | ([], ["rpki", ..] | ["l2vpn", _, "type", _])
            | (["router", ..], ["address-family", ..] | ["segment-routing", ..] | ["bmp", "targets", _])
            | (["router", ..], ["vnc", "defaults"] | ["vnc", "nve-group" | "l2-group", _])
            | (["address-family", "l2vpn", "evpn"], ["vni", _])
            | (["mpls", "ldp"], ["address-family", ..])
            | (["bfd"], ["peer" | "profile", _, ..])
            | (["key", "chain", _], ["key", _])
            | (["segment-routing"], ["srv6"] | ["traffic-eng"])
            | (["srv6"], ["locators"] | ["encapsulation"])
            | (["locators"], ["locator", _])
    )
}

/// Whether the line, which stands in a block that nobody closed, can only stand at top level. FRR tries a command that a block
/// does not know in the blocks around it.
fn ends_blocks(outermost: &str, words: &[&str]) -> bool {
    let kind = outermost.split(' ').next().unwrap_or_default();
    let first = words.first().copied().unwrap_or_default();
    let second = words.get(1).copied().unwrap_or_default();
    match (kind, first) {
        (
            _,
            "router" | "interface" | "route-map" | "access-list" | "hostname" | "frr" | "service" | "line" | "debug",
        ) => {
            // LDP has interfaces of its own.
            (opens(&[], words) && kind != "mpls") || !matches!(first, "router" | "interface" | "route-map" | "line")
        }
        (_, "vrf" | "log" | "pbr-map" | "nexthop-group" | "agentx" | "password" | "enable") => {
            kind != "interface" || first != "vrf"
        }
        (_, "bgp") => matches!(second, "as-path" | "community-list" | "extcommunity-list" | "large-community-list"),
        ("vrf", "ip" | "ipv6") => matches!(second, "prefix-list" | "access-list"),
        ("interface" | "router", "ip" | "ipv6") => {
            matches!(second, "prefix-list" | "access-list" | "route" | "protocol")
        }
        ("route-map", "match" | "set" | "call" | "on-match" | "continue" | "description" | "no") => false,
        ("route-map", _) => true,
        _ => false,
    }
}

#[derive(Debug, Default)]
struct Reader {
    blocks: Vec<String>,
    shared: Arc<[String]>,
    seen: BTreeSet<Line>,
    lines: Vec<Line>,
    spelling: spelling::Spelling,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [] => return,
            [first, ..] if first.starts_with(['!', '#']) => return,
            ["end" | "exit-vrf"] => return self.enter(Vec::new()),
            ["exit" | "quit"] => return self.leave(1),
            ["exit-address-family"] => {
                let depth = self.blocks.iter().rposition(|block| block.starts_with("address-family"));
                return self.leave(depth.map_or(0, |depth| self.blocks.len() - depth));
            }
            [exit] if exit.starts_with("exit-") => return self.leave(1),
            ["route-target", "both", targets @ ..] => {
                return ["import", "export"]
                    .iter()
                    .for_each(|way| self.line(&format!("route-target {way} {}", targets.join(" "))));
            }
            _ => {}
        }
        if self.blocks.first().is_some_and(|outermost| ends_blocks(outermost, &words)) {
            self.enter(Vec::new());
        }
        if words.first() == Some(&"address-family") {
            // One address family ends the other.
            let depth = self.blocks.iter().position(|block| block.starts_with("address-family"));
            self.leave(depth.map_or(0, |depth| self.blocks.len() - depth));
        }
        let opens = opens(&self.blocks, &words);
        let Some((block, text)) = self.spelling.of(&self.blocks, &words) else { return };
        if opens {
            if counts_empty(&text) {
                self.push(self.shared.clone(), text.clone());
            }
            let inner = self.blocks.drain(..).chain([text]).collect();
            return self.enter(inner);
        }
        let Some(block) = block else { return self.push(self.shared.clone(), text) };
        self.push([].into(), block.clone());
        self.push([block].into(), text);
    }

    fn push(&mut self, blocks: Arc<[String]>, text: String) {
        let line = Line { blocks, text };
        if self.seen.insert(line.clone()) {
            self.lines.push(line);
        }
    }

    fn leave(&mut self, levels: usize) {
        if levels > 0 {
            let mut blocks = std::mem::take(&mut self.blocks);
            blocks.truncate(blocks.len().saturating_sub(levels));
            self.enter(blocks);
        }
    }

    fn enter(&mut self, blocks: Vec<String>) {
        self.shared = blocks.as_slice().into();
        self.blocks = blocks;
    }

    fn finish(self) -> Config {
        let Self { lines, spelling, .. } = self;
        let suppressed = |line: &Line| !spelling.is_default(line);
        Config { lines: lines.into_iter().filter(suppressed).collect() }
    }
}

/// Blocks that are something without a line in them. FRR prints an interface or an address family only where it has lines.
fn counts_empty(opener: &str) -> bool {
    !matches!(opener.split(' ').next(), Some("interface" | "address-family" | "line"))
}
