//! FRR configuration text: it is read without a panic, what is printed of it is read back as the same, and it differs from
//! itself in nothing. The first half stands for what was meant, the second for what runs.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use network_operator::frr::compare::{Difference, is_ours};
use network_operator::frr::config::Config;

fuzz_target!(|text: &str| {
    let config = Config::parse(text);
    let again = Config::parse(&config.to_string());
    assert_eq!(again, config, "printed:\n{config}");
    assert!(Difference::between(&config, &config).is_empty());

    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let (want, seen) = text.split_at(middle);
    let (want, seen) = (Config::parse(want), Config::parse(seen));
    let daemons = BTreeMap::from([("bgpd".to_owned(), seen), ("zebra".to_owned(), want.clone())]);
    let merged = Config::merge(&daemons, "bgpd");
    let difference = Difference::between(&want, &merged);
    // Each line that differs is one that can be named, and whose it is can be said.
    for line in difference.missing.iter().chain(&difference.extra) {
        assert!(!line.to_string().is_empty());
        is_ours(line);
    }
    let back = Difference::between(&merged, &want);
    assert_eq!((back.missing, back.extra), (difference.extra, difference.missing));
});
