//! `validate`: many objects, some bad in every way an author can bring about; each says why, and the others stand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const OPERATOR_FILE: &str = "vnimap: {a: 100, b: 101, broken: 99999999}\nskipVRFConfig: [fabric]\n";

struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("manifests")).unwrap();
        let folder = Self { root };
        folder.write("config.yaml", OPERATOR_FILE);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn object(&self, name: &str, created: u8, spec: &str) {
        let text = format!(
            "apiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: {name}, creationTimestamp: \"2026-01-01T00:00:{created:02}Z\"}}\nspec: {{{spec}}}\n"
        );
        self.write(&format!("manifests/{name}.yaml"), &text);
    }

    fn good(&self, name: &str, seq: usize) {
        self.object(
            name,
            1,
            &format!("vrf: a, seq: {seq}, import: [{{cidr: 192.0.2.0/24, action: permit}}], export: []"),
        );
    }

    fn validate(&self, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_network-operator"));
        command.env_clear().arg("validate").arg("--config").arg(self.path("config.yaml"));
        command.args(options).arg("-f").arg(self.path("manifests")).output().unwrap()
    }

    fn json(&self) -> (Option<i32>, Value) {
        let output = self.validate(&["--output", "json"]);
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// Seven ways to be bad: object, spec, field, reason, and the value that the message names.
const BAD: [(&str, &str, &str, &str, &str); 7] = [
    (
        "bad-cidr",
        "vrf: a, seq: 900, import: [{cidr: 192.0.2.1/24, action: permit}], export: []",
        "spec.import[0].cidr",
        "InvalidValue",
        "192.0.2.1/24",
    ),
    (
        "bad-community",
        "vrf: a, seq: 901, import: [], export: [], community: \"1:2\\n!\"",
        "spec.community",
        "InvalidValue",
        "1:2",
    ),
    ("bad-type", "vrf: a, seq: many, import: [], export: []", "spec.seq", "Unreadable", "many"),
    ("bad-vrf", "vrf: nobody, seq: 902, import: [], export: []", "spec.vrf", "UnknownVrf", "nobody"),
    ("bad-entry", "vrf: broken, seq: 903, import: [], export: []", "spec.vrf", "RefusedVrf", "99999999"),
    (
        "bad-item",
        "vrf: a, seq: 904, import: [], export: [{cidr: 192.0.2.0/24, seq: 2, action: deny}, {cidr: 198.51.100.0/24, action: deny}]",
        "spec.export[1].seq",
        "DuplicateItem",
        "2",
    ),
    ("bad-mtu", "vrf: a, seq: 905, mtu: 1500, import: [], export: []", "spec.mtu", "ConflictingMtu", "1500"),
];

#[test]
fn of_100_objects_seven_are_bad_in_seven_ways_and_one_is_younger_than_its_rival() {
    let folder = Folder::new();
    for seq in 1..=91 {
        folder.good(&format!("good-{seq:02}"), seq);
    }
    for (name, spec, ..) in BAD {
        folder.object(name, 5, spec);
    }
    // The name of the younger one comes first.
    folder.object("rival-b", 2, "vrf: b, seq: 10, import: [], export: []");
    folder.object("rival-a", 3, "vrf: b, seq: 10, import: [], export: []");
    let (code, report) = folder.json();
    assert_eq!(code, Some(1));
    let objects = report["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 100);
    assert_eq!(objects.iter().filter(|object| object["accepted"] == true).count(), 92);
    let rejection = |name: &str| objects.iter().find(|object| object["name"] == name).unwrap()["rejection"].clone();
    for (name, _, field, reason, value) in BAD {
        let why = rejection(name);
        assert_eq!((&why["field"], &why["reason"]), (&field.into(), &reason.into()), "{name}: {why}");
        assert!(why["message"].as_str().unwrap().contains(value), "{name}: {why}");
        assert!(!why["cure"].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(rejection("rival-a")["reason"], "DuplicateSeq");
    assert_eq!(rejection("rival-b"), Value::Null);
    assert_eq!(report["operatorFile"][0]["field"], "vnimap.broken");

    let output = folder.validate(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.ends_with("92 of 100 accepted\n"), "{text}");
    for (name, _, field, reason, _) in BAD {
        let line = text.lines().find(|line| line.starts_with(&format!("rejected {name}: {field}: "))).unwrap();
        assert!(line.ends_with(&format!("({reason})")), "{line}");
    }
    assert!(text.contains("\noperator file: vnimap.broken: "), "{text}");

    // Each is mended alone, and then all is well.
    for (name, ..) in BAD {
        fs::remove_file(folder.path(&format!("manifests/{name}.yaml"))).unwrap();
    }
    folder.object("rival-a", 3, "vrf: b, seq: 11, import: [], export: []");
    folder.write("config.yaml", "vnimap: {a: 100, b: 101}\n");
    let (code, report) = folder.json();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["operatorFile"], Value::Array(vec![]));
}

#[test]
fn whether_ipv6_has_a_place_is_asked_of_a_template_that_is_given() {
    let folder = Folder::new();
    folder.object("six", 1, "vrf: a, seq: 1, import: [{cidr: \"2001:db8::/32\", action: permit}], export: []");
    folder.write("config.yaml", "vnimap: {a: 100}\n");
    assert_eq!(folder.validate(&[]).status.code(), Some(0));
    let template = fs::read_to_string("testdata/render/dual-stack/frr.conf.tpl").unwrap();
    folder.write("with.tpl", &template);
    let without: String =
        template.lines().filter(|line| !line.contains("NeighborsV6")).map(|line| format!("{line}\n")).collect();
    assert_ne!(without, template);
    folder.write("without.tpl", &without);
    let with = folder.path("with.tpl");
    assert_eq!(folder.validate(&["--template", with.to_str().unwrap()]).status.code(), Some(0));
    let without = folder.path("without.tpl");
    let output = folder.validate(&["--template", without.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("(NoIpv6Hint)"));
}

#[test]
fn what_cannot_be_read_is_named_and_is_no_verdict() {
    let folder = Folder::new();
    let output = folder.validate(&[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("*.yaml") && output.stdout.is_empty(), "{error}");
    folder.good("x", 1);
    folder.write("config.yaml", "vnimap: [");
    let output = folder.validate(&[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("config.yaml") && output.stdout.is_empty(), "{error}");
}
