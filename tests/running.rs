//! What two FRRs print of a configuration against that configuration: equal where it means the same, unequal otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::collections::BTreeMap;
use std::fs;

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
