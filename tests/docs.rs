//! What docs/ says of the program is what the program says of itself.
#![allow(clippy::unwrap_used, reason = "a test that fails must stop")]

use std::collections::BTreeMap;

use network_operator::desired::RejectionReason;

#[test]
fn the_table_of_rejections_has_every_reason_with_its_meaning_and_a_cure() {
    let schema = serde_json::to_value(schemars::schema_for!(RejectionReason)).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let variants = schema.get("oneOf").unwrap().as_array().unwrap().iter();
    let meant: BTreeMap<String, String> =
        variants.map(|variant| (text(&variant["const"]), text(&variant["description"]))).collect();
    let rows = include_str!("../docs/rejections.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeMap<String, String> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
            let [reason, meaning, cure] = cells.as_slice() else { unreachable!("three cells: {row}") };
            assert!(cure.len() > 20, "{row}");
            (reason.trim_end_matches('`').to_owned(), (*meaning).to_owned())
        })
        .collect();
    assert_eq!(told, meant);
}
