//! `render` as people call it: golden texts, and one test for each kind of bad input.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/render")
}

struct Rendered {
    code: i32,
    stdout: String,
    stderr: String,
}

fn render(folder: &Path) -> Rendered {
    let output = Command::new(env!("CARGO_BIN_EXE_network-operator"))
        .current_dir(folder)
        .args(["render", "--config", "config.yaml", "--template", "frr.conf.tpl", "--underlay-ip", "192.0.2.129"])
        .args(["--node-name", "node-1", "-f", "objects.yaml"])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Rendered { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// `UPDATE_GOLDEN=1 cargo test --test render` writes the expected texts anew; read the difference before you commit it.
#[test]
fn the_rendered_text_is_the_golden_one() {
    let mut cases = 0;
    for case in fs::read_dir(testdata()).unwrap() {
        let folder = case.unwrap().path();
        let rendered = render(&folder);
        assert_eq!((rendered.code, rendered.stderr.as_str()), (0, ""), "{}", folder.display());
        let golden = folder.join("frr.conf");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &rendered.stdout).unwrap();
        }
        assert_eq!(rendered.stdout, fs::read_to_string(&golden).unwrap_or_default(), "{}", folder.display());
        cases += 1;
    }
    assert!(cases >= 6);
}

#[test]
fn rendering_again_from_the_rendered_objects_changes_nothing() {
    let folder = testdata().join("dual-stack");
    assert_eq!(render(&folder).stdout, render(&folder).stdout);
}

/// A case of its own: the files of the golden case `one-vrf-ipv4`, one of them changed.
struct Case(tempfile::TempDir);

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.yaml", "frr.conf.tpl", "objects.yaml"] {
            fs::copy(testdata().join("one-vrf-ipv4").join(name), folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn change(self, file: &str, from: &str, to: &str) -> Self {
        let path = self.0.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
        self
    }

    /// Puts a bad object before the good one.
    fn object(self, vrf: &str, spec: &str) -> Self {
        let path = self.0.path().join("objects.yaml");
        let good = fs::read_to_string(&path).unwrap();
        let bad = format!(
            "apiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: bad}}\nspec:\n  vrf: {vrf}\n{spec}\n"
        );
        fs::write(path, format!("{bad}---\n{good}")).unwrap();
        self
    }

    /// The bad one is named with field and cure, and the good one is rendered as if it were alone.
    #[track_caller]
    fn rejects(self, words: &[&str]) {
        let rendered = render(self.0.path());
        assert_eq!(rendered.code, 2, "{}", rendered.stderr);
        for word in words.iter().chain(&["rejected: bad: "]) {
            assert!(rendered.stderr.contains(word), "no {word:?} in: {}", rendered.stderr);
        }
        assert_eq!(rendered.stderr.lines().count(), 1, "{}", rendered.stderr);
        assert_eq!(rendered.stdout, fs::read_to_string(testdata().join("one-vrf-ipv4/frr.conf")).unwrap());
    }

    /// Nothing is rendered.
    #[track_caller]
    fn fails(self, words: &[&str]) {
        let rendered = render(self.0.path());
        assert_eq!((rendered.code, rendered.stdout.as_str()), (1, ""), "{}", rendered.stderr);
        for word in words {
            assert!(rendered.stderr.contains(word), "no {word:?} in: {}", rendered.stderr);
        }
        let mut parts = std::collections::BTreeSet::new();
        let repeated = rendered.stderr.trim().split(": ").find(|part| !parts.insert(*part));
        assert_eq!(repeated, None, "said twice in: {}", rendered.stderr);
    }
}

const EMPTY: &str = "  seq: 20\n  import: []\n  export: []";

fn with_import(item: &str) -> String {
    format!("  seq: 20\n  import: [{item}]\n  export: []")
}

#[test]
fn a_vrf_of_which_every_object_is_rejected_keeps_maps_that_deny_all() {
    let case = Case::new().change("config.yaml", "{a: 100}", "{a: 100}\nskipVRFConfig: [m]");
    let rendered = render(case.object("m", &format!("{EMPTY}\n  mtu: 1")).0.path());
    assert_eq!(rendered.code, 2, "{}", rendered.stderr);
    for map in
        ["route-map rm_m_import deny 65535\n", "route-map rm_m_export deny 1\n", "route-map rm6_m_export deny 1\n"]
    {
        assert!(rendered.stdout.contains(map), "no {map} in {}", rendered.stdout);
    }
}

#[test]
fn an_unknown_vrf_is_rejected() {
    Case::new().object("nowhere", EMPTY).rejects(&["spec.vrf", "nowhere", "vnimap"]);
}

#[test]
fn a_vrf_name_that_is_too_long_or_odd_is_rejected() {
    for name in ["thirteenchars", "'a b'", "'a/b'", "'!'", "\"a\\nb\"", "''"] {
        Case::new().object(name, EMPTY).rejects(&["spec.vrf", "1 to 12"]);
    }
}

#[test]
fn host_bits_are_rejected_with_the_network() {
    let item = with_import("{cidr: 203.0.113.1/24, action: permit}");
    Case::new().object("a", &item).rejects(&["spec.import[0].cidr", "host bits", "203.0.113.0/24"]);
}

#[test]
fn ge_and_le_that_frr_refuses_are_rejected() {
    for (item, field) in [
        ("{cidr: 203.0.113.0/24, ge: 23, action: permit}", "ge"),
        ("{cidr: 203.0.113.0/24, le: 23, action: permit}", "le"),
        ("{cidr: 203.0.113.0/24, ge: 28, le: 26, action: permit}", "ge"),
        ("{cidr: 203.0.113.0/24, ge: 33, action: permit}", "ge"),
        ("{cidr: 203.0.113.0/24, le: 33, action: permit}", "le"),
        ("{cidr: '2001:db8::/32', ge: 129, action: permit}", "ge"),
        ("{cidr: 203.0.113.0/24, ge: -1, action: permit}", "ge"),
    ] {
        Case::new().object("a", &with_import(item)).rejects(&[&format!("spec.import[0].{field}")]);
    }
}

#[test]
fn a_seq_that_an_older_object_has_is_rejected() {
    // Without creation times the name decides: "bad" comes before "x", so here x is the younger one.
    let case = Case::new().object("a", "  seq: 10\n  import: []\n  export: []");
    let rendered = render(case.0.path());
    assert_eq!(rendered.code, 2);
    assert!(rendered.stderr.starts_with("rejected: x: spec.seq: "), "{}", rendered.stderr);
    Case::new().object("a", "  seq: 0\n  import: []\n  export: []").rejects(&["spec.seq", "1 to 65534"]);
    Case::new().object("a", "  seq: 65535\n  import: []\n  export: []").rejects(&["spec.seq", "1 to 65534"]);
}

#[test]
fn two_items_with_one_seq_are_rejected() {
    let item = "{cidr: 203.0.113.0/24, seq: 2, action: permit}, {cidr: 203.0.114.0/24, action: permit}";
    Case::new().object("a", &with_import(item)).rejects(&["spec.import[1].seq", "spec.import[0]"]);
}

#[test]
fn nothing_but_communities_comes_through_community() {
    for text in [
        "\"65000:1\\nrouter bgp 1\"",
        "no router bgp 64510",
        "\"65000:1\\n!\"",
        "65000:65536",
        "''",
        "65000:1 internett",
    ] {
        Case::new().object("a", &format!("{EMPTY}\n  community: {text}")).rejects(&["spec.community", "AA:NN"]);
    }
}

#[test]
fn an_mtu_that_carries_no_ipv6_or_contradicts_is_rejected() {
    Case::new().object("a", &format!("{EMPTY}\n  mtu: 1279")).rejects(&["spec.mtu", "1280"]);
}

#[test]
fn an_object_that_cannot_be_read_is_rejected_by_field() {
    Case::new().object("a", "  seq: many\n  import: []\n  export: []").rejects(&["spec.seq", "many"]);
    Case::new().object("a", "  seq: 20\n  import: []").rejects(&["export"]);
    Case::new()
        .object("a", &with_import("{cidr: 203.0.113.0/24, action: pass}"))
        .rejects(&["spec.import[0].action", "permit"]);
    Case::new()
        .object("a", &with_import("{cidr: 203.0.113.0, action: permit}"))
        .rejects(&["spec.import[0].cidr", "CIDR"]);
}

#[test]
fn a_vni_out_of_range_takes_only_its_vrf() {
    for vni in ["0", "16777216", "-5"] {
        let case = Case::new().change("config.yaml", "{a: 100}", &format!("{{a: 100, b: {vni}}}"));
        case.object("b", EMPTY).rejects(&["spec.vrf", "vnimap.b", "1 to 16777215"]);
    }
}

#[test]
fn one_vni_for_two_vrfs_takes_only_these_two() {
    let case = Case::new().change("config.yaml", "{a: 100}", "{a: 100, b: 7, c: 7}");
    case.object("b", EMPTY).rejects(&["spec.vrf", "VNI 7 is given to b and c"]);
}

#[test]
fn a_broken_operator_file_is_named_with_line_and_column() {
    Case::new().change("config.yaml", "vnimap", "vniMap").fails(&["config.yaml", "vniMap", "line 1", "column 1"]);
    Case::new().change("config.yaml", "{a: 100}", "{a: 100").fails(&["config.yaml", "line"]);
}

#[test]
fn a_template_without_a_hint_names_it_and_its_place() {
    for (hint, place) in [
        ("VRFs", "vrf stanzas"),
        ("Neighbors", "router bgp"),
        ("NeighborsV4", "ipv4 unicast"),
        ("BGP", "last `router bgp`"),
        ("PrefixLists", "end"),
        ("RouteMaps", "end"),
    ] {
        let line = format!("#++{{{{.{hint}}}}}\n");
        Case::new().change("frr.conf.tpl", &line, "").fails(&["no hint", &format!("{{{{.{hint}}}}}"), place]);
    }
}

#[test]
fn a_hint_that_stands_twice_is_named_with_both_lines() {
    Case::new()
        .change("frr.conf.tpl", "#++{{.BGP}}\n", "#++{{.BGP}}\n#++{{.BGP}}\n")
        .fails(&["{{.BGP}}", "line 19", "line 18"]);
}

#[test]
fn an_unknown_hint_is_named_with_its_line() {
    Case::new().change("frr.conf.tpl", "#++{{.BGP}}\n", "#++{{.BGP}}\n#++{{.Bgp}}\n").fails(&["{{.Bgp}}", "line 19"]);
}

#[test]
fn ipv6_routes_without_their_hint_are_rejected_with_its_place() {
    let cure = "`#++{{.NeighborsV6}}` in `address-family ipv6 unicast`";
    let item = with_import("{cidr: '2001:db8::/32', action: permit}");
    Case::new().object("a", &item).rejects(&["spec.import: 2001:db8::/32 is IPv6", cure]);
    Case::new().object("a", &format!("{EMPTY}\n  aggregate: ['2001:db8::/32']")).rejects(&["spec.aggregate", cure]);
}

#[test]
fn equal_router_ids_are_refused_before_frr_does() {
    Case::new().change("frr.conf.tpl", "198.51.100.1", "192.0.2.129").fails(&["line 9", "router-id", "RFC 6286"]);
    Case::new().change("frr.conf.tpl", "198.51.100.1", "{{.UnderlayRouterID}}").fails(&["line 9", "router-id"]);
}

#[test]
fn sections_can_be_overridden_and_a_wrong_file_is_named() {
    let case = Case::new();
    let templates = case.0.path().join("templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("vrfs.j2"), "{% for vrf in vrfs %}! mine {{ vrf.name }}\n{% endfor %}").unwrap();
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_network-operator"))
            .current_dir(case.0.path())
            .args(["render", "--config", "config.yaml", "--template", "frr.conf.tpl", "--underlay-ip", "192.0.2.129"])
            .args(["--node-name", "node-1", "--templates", "templates", "-f", "objects.yaml"])
            .output()
            .unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(run().0.contains("\n! mine a\n"));
    fs::write(templates.join("vrfs.j2"), "{{ nothing }}").unwrap();
    assert!(run().1.contains("vrfs.j2"), "{}", run().1);
    fs::write(templates.join("vrf.j2"), "").unwrap();
    assert!(run().1.contains("vrf.j2 overrides no section"), "{}", run().1);
}
