//! The house rules: which module may import which, and what a file of `src` looks like.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a module may import of ours. An adapter is a module whose path is longer: it has a line of its own.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("api", &[]),
    ("config", &["model"]),
    ("desired", &["model", "api", "config"]),
    ("link", &["model", "config", "desired"]),
    ("frr", &["model", "config", "desired", "link"]),
    ("notrack", &["model", "link"]),
    ("bpf", &["config", "link", "model", "notrack"]),
    // Adapters: they know their own words, and nothing of the pipeline.
    ("link/netlink", &["link", "model"]),
    ("notrack/netfilter", &["notrack"]),
    ("bpf/pins", &["bpf/program"]),
    ("bpf/program", &["bpf", "bpf/pins", "trigger"]),
    ("bpf/filters", &["bpf", "link/netlink", "model"]),
    (
        "bpf/host",
        &["bpf", "bpf/filters", "bpf/pins", "bpf/program", "link/netlink", "model", "notrack", "notrack/netfilter"],
    ),
    ("replace", &[]),
    ("frr/files", &["replace"]),
    ("frr/vty", &[]),
    ("systemd", &[]),
    ("frr/service", &["systemd"]),
    ("frr/check", &["systemd"]),
    ("frr/running", &[]),
    ("frr/converge", &[]),
    ("frr/teller", &[]),
    ("health", &["config"]),
    ("health/daemons", &["frr/running", "frr/vty", "systemd", "trigger"]),
    ("health/reach", &["config"]),
    ("health/node", &["health", "status", "trigger", "trigger/kube"]),
    ("health/probes", &["trigger"]),
    ("listen", &["trigger"]),
    ("metrics", &["bpf", "desired", "frr", "link", "reconcile", "trigger"]),
    (
        "metrics/collect",
        &["bpf", "bpf/pins", "bpf/program", "frr/running", "frr/vty", "link", "link/netlink", "metrics", "trigger"],
    ),
    ("metrics/scrape", &["metrics", "metrics/collect"]),
    ("trigger", &["api", "desired"]),
    ("trigger/kube", &["api", "desired", "trigger"]),
    ("trigger/manifests", &["api", "desired", "trigger"]),
    ("trigger/files", &["trigger"]),
    ("state", &["api", "replace"]),
    ("status", &["api", "desired", "link", "trigger"]),
    ("status/events", &["status", "trigger"]),
    ("status/publish", &["api", "status", "status/events", "trigger"]),
    ("status/start", &["status", "status/collect", "status/lease", "status/publish"]),
    ("status/lease", &["status", "trigger", "trigger/kube"]),
    ("status/collect", &["api", "status", "status/events", "status/publish", "trigger", "trigger/kube"]),
    ("trigger/links", &["trigger", "config", "link", "model"]),
    ("trigger/nftables", &["trigger", "notrack"]),
    ("trigger/service", &["systemd", "trigger"]),
    ("trigger/vtysh", &["trigger"]),
    ("input", &["config", "frr/files", "frr/template", "state", "trigger", "trigger/kube", "trigger/manifests"]),
    // The pipeline names no adapter.
    ("reconcile", &["api", "config", "desired", "model", "link", "frr", "trigger"]),
    ("admission", &["config", "desired", "frr", "reconcile", "trigger"]),
    ("admission/judge", &["admission", "config", "frr/template", "input", "trigger", "trigger/kube"]),
    (
        "admission/server",
        &["admission", "admission/judge", "api", "desired", "input", "trigger", "trigger/files", "trigger/kube"],
    ),
    // Composition roots.
    ("agent", &["*"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// Modules that a name of a parent does not stand for.
const ADAPTERS: [&str; 35] = [
    "listen",
    "metrics/collect",
    "metrics/scrape",
    "bpf/filters",
    "bpf/host",
    "bpf/pins",
    "bpf/program",
    "notrack/netfilter",
    "trigger/nftables",
    "admission/judge",
    "admission/server",
    "link/netlink",
    "frr/files",
    "frr/vty",
    "frr/service",
    "frr/check",
    "systemd",
    "frr/running",
    "frr/converge",
    "frr/teller",
    "health/daemons",
    "health/node",
    "health/probes",
    "health/reach",
    "trigger/kube",
    "trigger/manifests",
    "trigger/files",
    "trigger/links",
    "trigger/service",
    "trigger/vtysh",
    "status/events",
    "status/publish",
    "status/lease",
    "status/start",
    "status/collect",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// `link/netlink` of `src/link/netlink/apply.rs`: the longest module that the table knows.
fn module(path: &str) -> &'static str {
    let path = path.trim_end_matches(".rs");
    let known = MAY_IMPORT.iter().map(|(module, _)| *module);
    known
        .filter(|module| path == *module || path.starts_with(&format!("{module}/")))
        .max_by_key(|m| m.len())
        .unwrap_or_else(|| panic!("{path} has no line in the table"))
}

/// Modules that a file imports of ours, as `link/netlink`; `path` is the file's own, `link/netlink/apply.rs`.
fn imports(path: &str, text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    assert!(!code.contains("crate::{") && !code.contains("super::super"), "src/{path}: name each module by its path");
    let own = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let parent = own.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("{parent}/"));
    let mut found = Vec::new();
    for (word, base) in [("crate::", ""), ("super::", parent.as_str())] {
        for (start, _) in code.match_indices(word) {
            let rest = code[start + word.len()..].chars();
            let name: String = rest.take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            found.push(format!("{base}{}", name.replace("::", "/")));
        }
    }
    found
}

#[test]
fn arrows_go_one_way() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 30, "the scan finds the sources");
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let from = module(&path);
        let allowed = rules[from];
        for import in imports(&path, &fs::read_to_string(&file).unwrap()) {
            let within = |module: &str| import == module || import.starts_with(&format!("{module}/"));
            let adapter = ADAPTERS.iter().find(|adapter| within(adapter));
            let good = allowed
                .iter()
                .any(|module| *module == "*" || (within(module) && adapter.is_none_or(|adapter| module == adapter)));
            let own = within(from) && adapter.is_none_or(|adapter| from == *adapter);
            // FRR's adapters build on each other within their folder.
            let sibling = from.starts_with("frr/") && import.starts_with("frr/");
            if !good && !own && !sibling {
                wrong.push(format!("src/{path} imports crate::{}", import.replace('/', "::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{}: the first line says what the file is for", file.display());
        assert!(text.lines().count() <= 400, "{}: above 400 lines", file.display());
        let code = text.split("#[cfg(test)]").next().unwrap();
        assert!(!code.contains("Command::new"), "{}: the agent starts no process", file.display());
    }
}
