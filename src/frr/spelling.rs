//! The spelling in which FRR 8 and 10 print what a configuration says, and what they leave out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::config::Line;

/// What the spelling of a line depends on in lines before it.
#[derive(Debug, Default)]
pub(super) struct Spelling {
    /// The last number given out of each list whose entries may come without one.
    numbers: BTreeMap<String, u32>,
    /// Instances that say `no bgp default ipv4-unicast`.
    unicast_off: BTreeSet<String>,
}

impl Spelling {
    /// The line as FRR prints it, and the block that FRR moves it into where that is another one; `None` for what no daemon
    /// shows, or nobody configured.
    pub(super) fn of(&mut self, blocks: &[String], words: &[&str]) -> Option<(Option<String>, String)> {
        match (blocks, words) {
            // Said by vtysh, or about the text itself.
            ([], ["frr", "version", ..] | ["Building", "configuration..."] | ["Current", "configuration:", ..]) => {
                return None;
            }
            ([], ["service", "integrated-vtysh-config"] | ["no", "service", "integrated-vtysh-config"]) => return None,
            ([], ["username", ..] | ["frr", "defaults", ..]) => return None,
            // FRR prints the host's name once a reload has been, whether or not somebody configured one.
            ([], ["hostname" | "domainname", ..]) => return None,
            // These are the kernel's switches; FRR prints only that they are off.
            ([], ["ip" | "ipv6", "forwarding"] | ["no", "ip" | "ipv6", "forwarding"]) => return None,
            ([], ["line", "vty"]) => return Some((None, "line vty".to_owned())),
            ([block, ..], _) if block == "line vty" => return None,
            ([block, ..], ["no", "bgp", "default", "ipv4-unicast"]) => {
                self.unicast_off.insert(block.clone());
            }
            ([_, ..], ["bgp", "default", "ipv4-unicast"]) => return None,
            _ => {}
        }
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut block = None;
        let plain: Vec<&str> = words.iter().map(String::as_str).collect();
        match (blocks, plain.as_slice()) {
            ([], ["router", "bgp", _, "vrf", "default"] | ["interface", _, "vrf", _]) => {
                words.truncate(words.len() - 2)
            }
            ([_], ["address-family", "ipv4" | "ipv6"]) => words.push("unicast".to_owned()),
            ([_], ["address-family", "evpn"]) => words.insert(1, "l2vpn".to_owned()),
            ([], ["ip" | "ipv6", "route", .., "vrf", vrf]) => {
                block = Some(format!("vrf {vrf}"));
                words.truncate(words.len() - 2);
            }
            _ => {}
        }
        self.number(&mut words);
        let host_part = blocks.first().is_some_and(|block| block.starts_with("interface "));
        let words = words.into_iter().map(|word| address(&word, host_part).unwrap_or(word));
        Some((block, communities(words.collect()).join(" ")))
    }

    /// A list entry without a number gets the next one that five divides (`prefix_new_seq_get`, lib/plist.c).
    fn number(&mut self, words: &mut Vec<String>) {
        let plain: Vec<&str> = words.iter().map(String::as_str).collect();
        let (name, at) = match plain.as_slice() {
            ["ip" | "ipv6", "prefix-list", _, "description", ..] => return,
            ["ip" | "ipv6", "prefix-list" | "access-list", _, ..] => (3, 3),
            ["access-list", _, ..] => (2, 2),
            ["bgp", "as-path", "access-list", _, ..] => (4, 4),
            [
                "bgp",
                "community-list" | "extcommunity-list" | "large-community-list",
                "standard" | "expanded",
                _,
                ..,
            ] => (4, 4),
            _ => return,
        };
        let list = plain.iter().take(name).copied().collect::<Vec<_>>().join(" ");
        let last = self.numbers.entry(list).or_default();
        match plain.get(at..at + 2) {
            Some(["seq", number]) => *last = number.parse().map_or(*last, |number: u32| number.max(*last)),
            Some(["permit" | "deny", _]) => {
                *last = (*last / 5 + 1).saturating_mul(5);
                let number = last.to_string();
                words.splice(at..at, ["seq".to_owned(), number]);
            }
            _ => {}
        }
    }

    /// What FRR leaves out because it is so without a word: neighbors take part in IPv4 unicast unless the instance says
    /// otherwise (`bgp_config_write_peer_af`).
    pub(super) fn is_default(&self, line: &Line) -> bool {
        let words: Vec<&str> = line.text.split(' ').collect();
        let [instance, family] = &*line.blocks else { return false };
        matches!(words.as_slice(), ["neighbor", _, "activate"])
            && family == "address-family ipv4 unicast"
            && !self.unicast_off.contains(instance)
    }
}

/// An address or prefix as FRR prints it: RFC 5952, without host bits but where it is an interface's own.
fn address(word: &str, host_part: bool) -> Option<String> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let net: IpNet = word.parse().ok()?;
    Some(if host_part { net.to_string() } else { net.trunc().to_string() })
}

/// `set community` in the order of FRR: by number, each once (`community_uniq_sort`).
fn communities(mut words: Vec<String>) -> Vec<String> {
    if !matches!(words.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), ["set", "community", _, ..]) {
        return words;
    }
    let number =
        |word: &String| word.split_once(':').and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)));
    let behind = words.iter().rposition(|word| number(word).is_some()).map_or(2, |last| last + 1);
    let numbers: Option<BTreeSet<_>> = words.get(2..behind).and_then(|words| words.iter().map(number).collect());
    if let Some(numbers) = numbers {
        words.splice(2..behind, numbers.into_iter().map(|(a, b)| format!("{a}:{b}")));
    }
    words
}
