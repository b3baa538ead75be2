//! What two FRRs print of a configuration against that configuration: equal where it means the same, unequal otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use network_operator::frr::compare::{Difference, is_ours};
use network_operator::frr::config::{Config, Line};
use proptest::prelude::*;
use proptest::sample::Index;

const FRRS: [&str; 2] = ["frr-8.4.4", "frr-10.3"];

fn path(name: &str) -> String {
    format!("{}/testdata/running/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn text(case: &str) -> String {
    fs::read_to_string(path(&format!("{case}/frr.conf"))).unwrap()
}

/// The texts of the daemons.
fn printed(case: &str, frr: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(path(&format!("{case}/{frr}"))).unwrap().map(|entry| entry.unwrap().path());
    let daemon = |file: &std::path::Path| file.file_stem().unwrap().to_string_lossy().into_owned();
    entries.map(|file| (daemon(&file), fs::read_to_string(&file).unwrap())).collect()
}

fn running(printed: &BTreeMap<String, String>) -> Config {
    let parsed = printed.iter().map(|(daemon, text)| (daemon.clone(), Config::parse(text))).collect();
    Config::merge(&parsed, "bgpd")
}

fn lines(lines: &[Line]) -> Vec<String> {
    lines.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_rendered_is_what_both_frrs_print_back() {
    for frr in FRRS {
        let seen = running(&printed("lab", frr));
        assert!(seen.lines().len() > 120, "{frr}: {}", seen.lines().len());
        assert_eq!(Difference::between(&Config::parse(&text("lab")), &seen), Difference::default(), "{frr}");
    }
}

/// Spellings, order and open blocks of a site do not count. What FRR says nothing about because it is the default is known to
/// nobody but FRR; these lines are all that is left.
#[test]
fn a_site_s_own_words_are_understood() {
    for (frr, silent) in FRRS.into_iter().zip([
        &["interface vec0 / ipv6 nd suppress-ra", "router bgp 64510 / timers bgp 60 180"][..],
        &["interface vec0 / ipv6 nd suppress-ra", "router bgp 64510 / timers bgp 60 180", "ip nht resolve-via-default"],
    ]) {
        let difference = Difference::between(&Config::parse(&text("site")), &running(&printed("site", frr)));
        assert_eq!(lines(&difference.missing), silent, "{frr}");
        assert_eq!(lines(&difference.extra), Vec::<String>::new(), "{frr}");
    }
}

#[test]
fn lines_of_ours_are_told_from_those_of_the_site() {
    let config = Config::parse(&text("lab"));
    let (ours, theirs): (Vec<&Line>, Vec<&Line>) = config.lines().iter().partition(|line| is_ours(line));
    let theirs: Vec<String> = theirs.iter().map(ToString::to_string).collect();
    assert!(ours.len() > 80, "{}", ours.len());
    let marks = ["dv.", "vd.", "vr.", "pl_"];
    assert!(theirs.iter().all(|line| !marks.iter().any(|mark| line.contains(mark))), "{theirs:#?}");
    assert!(theirs.contains(&"route-map rm_import_cluster_to_oam permit 20 / call rm_mgmt_vrf_export".to_owned()));
}

proptest! {
    /// Each line counts: one that a daemon has lost, or has besides, is found, and nothing else is.
    #[test]
    fn one_line_less_or_more_is_found_by_name(frr in 0usize..2, at in any::<Index>()) {
        let want = Config::parse(&text("lab"));
        let seen = running(&printed("lab", FRRS[frr]));
        let counted: Vec<&Line> = want.lines().iter().filter(|line| !line.text.starts_with("vrf ")).collect();
        let lost = (*at.get(&counted)).clone();
        let without = |config: &Config| config.lines().iter().filter(|line| **line != lost).cloned().collect::<Config>();
        let one = |difference: &[Line]| difference == std::slice::from_ref(&lost);
        let less = Difference::between(&want, &without(&seen));
        prop_assert!(one(&less.missing) && less.extra.is_empty(), "{}: {}", lost, less);
        let more = Difference::between(&without(&want), &seen);
        prop_assert!(one(&more.extra) && more.missing.is_empty(), "{}: {}", lost, more);
        // Also in print.
        let less = Difference::between(&want, &Config::parse(&without(&seen).to_string()));
        prop_assert!(less.is_empty() == lost.opens_block() || one(&less.missing), "{}: {}", lost, less);
    }
}

/// All texts of FRR configuration here, by path: templates, what is rendered of them, and what both FRRs print.
fn texts() -> BTreeMap<PathBuf, String> {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata")];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "conf" || extension == "tpl") {
                found.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_template_and_running_configuration_is_printed_and_read_back_as_the_same() {
    let texts = texts();
    assert!(texts.len() >= 30, "{:?}", texts.keys());
    for (path, text) in texts {
        let config = Config::parse(&text);
        let printed = config.to_string();
        let again = Config::parse(&printed);
        assert_eq!(again, config, "{}", path.display());
        assert_eq!(again.to_string(), printed, "{}", path.display());
        assert_eq!(Difference::between(&config, &config), Difference::default(), "{}", path.display());
    }
}

/// Lines that need not be there: ends of blocks, and what FRR prints or leaves out whatever is configured.
fn may_be_absent(line: &str, next: &str) -> bool {
    // The site's neighbors take part in IPv4 unicast without a word.
    const IMPLIED: [&str; 9] = [
        "service integrated-vtysh-config",
        "line vty",
        "exec-timeout 0 0",
        "ip forwarding",
        "ipv6 forwarding",
        "bgp default ipv4-unicast",
        "neighbor FABRIC activate",
        "neighbor 198.51.100.3 activate",
        "Building configuration...",
    ];
    let line = line.trim();
    let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    let empty_block = starts(&["vrf ", "address-family "]) && next.trim().starts_with("exit");
    IMPLIED.contains(&line)
        || line.is_empty()
        || starts(&["!", "#", "exit", "end", "hostname ", "frr ", "Current configuration:"])
        || empty_block
}

/// The text with another line in the place of one.
fn with(lines: &[&str], at: usize, line: &str) -> Config {
    let lines = lines.iter().enumerate().map(|(n, old)| if n == at { line } else { old });
    Config::parse(&lines.collect::<Vec<_>>().join("\n"))
}

/// The line with one word changed, for each of its words: a number is one more, a word has a letter more.
fn changed(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let other = |word: &str| word.parse().map_or_else(|_| format!("{word}x"), |number: u32| (number + 1).to_string());
    let change = |at: usize| {
        let words = words.iter().enumerate().map(|(n, old)| if n == at { other(old) } else { (*old).to_owned() });
        words.collect::<Vec<_>>().join(" ")
    };
    (0..words.len()).filter(|at| !words[*at].is_empty()).map(change).collect()
}

#[test]
fn a_line_that_is_dropped_added_or_changed_is_found_in_every_text() {
    let mut counted = 0;
    for (path, text) in texts() {
        let (config, lines) = (Config::parse(&text), text.lines().collect::<Vec<_>>());
        for (at, line) in lines.iter().enumerate() {
            let next = lines.iter().skip(at + 1).find(|next| !next.trim().starts_with(['!', '#'])).unwrap_or(&"");
            if may_be_absent(line, next) {
                continue;
            }
            let differs = |other: &Config| {
                let (one, two) = (Difference::between(&config, other), Difference::between(other, &config));
                !one.is_empty() && !two.is_empty()
            };
            let place = format!("{}:{}: {line}", path.display(), at + 1);
            assert!(differs(&with(&lines, at, "")), "dropped: {place}");
            for new in changed(line) {
                assert!(differs(&with(&lines, at, &new)), "{place}: changed to: {new}");
            }
            counted += 1;
        }
    }
    assert!(counted > 1000, "{counted}");
}

#[test]
fn an_entry_without_a_number_after_the_highest_one_has_that_number_too() {
    let text = "ip prefix-list l seq 4294967295 permit any\nip prefix-list l permit 10.0.0.0/8\n";
    let expected = "ip prefix-list l seq 4294967295 permit 10.0.0.0/8";
    assert_eq!(lines(Config::parse(text).lines())[1], expected);
}

/// Texts that are nearly configuration.
fn nearly() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "router bgp 1",
        "router bgp 1 vrf a",
        "router bgp 2 vrf default",
        "address-family ipv4",
        "address-family l2vpn evpn",
        "vni 5",
        "vrf a",
        "interface e",
        "route-map m permit 1",
        "match tag 1",
        "set community 2:1 1:1 additive",
        "exit",
        "exit-vrf",
        "exit-address-family",
        "exit-vni",
        "end",
        "!",
        " # x",
        "neighbor x activate",
        "no bgp default ipv4-unicast",
        "ip prefix-list l permit 10.1.1.1/8",
        "ip prefix-list l seq 3 permit any",
        "ip route 10.0.0.0/8 Null0 vrf a",
        "ipv6 route 2001:DB8::/32 blackhole",
        "route-target both 1:1",
        "bfd",
        "peer 192.0.2.1",
        "line vty",
        "exec-timeout 0 0",
        "key chain k",
        "key 1",
        "segment-routing",
        "srv6",
        "locators",
        "locator x",
        "mpls ldp",
        "interface y",
        "log syslog",
        "access-list a permit 10.0.0.0/8",
        "bgp as-path access-list p permit .*",
        "\u{0} \u{7f}ß",
        "ip address 192.0.2.1/24",
    ]);
    let indented = (words, 0usize..4).prop_map(|(words, blanks)| format!("{:blanks$}{words}", ""));
    prop_oneof![prop::collection::vec(indented, 0..40).prop_map(|lines| lines.join("\n")), any::<String>(),]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back_as_the_same(text in nearly()) {
        let config = Config::parse(&text);
        let again = Config::parse(&config.to_string());
        prop_assert_eq!(&again, &config, "{}", config);
        prop_assert!(Difference::between(&config, &config).is_empty());
        prop_assert!(Difference::between(&config, &again).is_empty());
    }
}
