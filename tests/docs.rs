//! What docs/ says of the program is what the program says of itself, and what it points to is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kube::CustomResourceExt;
use network_operator::api::{NodeNetworkState, VrfRouteConfiguration};
use network_operator::desired::RejectionReason;
use serde_json::Value;

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

/// The rows of a schema's fields, each below the one that holds it.
fn rows(path: &str, schema: &Value, rows: &mut String) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in properties {
        let list = &field["items"];
        let (kind, inner) = match field["type"].as_str().unwrap_or("any") {
            "array" => (format!("list of {}", list["type"].as_str().unwrap()), list),
            kind => (kind.to_owned(), field),
        };
        let path = format!("{path}.{name}{}", if list.is_object() { "[]" } else { "" });
        let text = |key: &str| inner[key].as_str().map(|text| text.replace(['\n', '|'], " "));
        let meaning =
            field["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let mut limits = Vec::new();
        let number = |key: &str| field[key].as_f64().map(|number| format!("{number}"));
        limits.extend(number("minimum").map(|least| format!("at least {least}")));
        limits.extend(number("maximum").map(|most| format!("at most {most}")));
        limits.extend(field["default"].as_i64().map(|value| format!("default {value}")));
        limits.extend(text("pattern").map(|pattern| format!("matches `{pattern}`")));
        let words = inner["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
        limits.extend((!words.is_empty()).then(|| words.join(", ")));
        limits.extend(required.contains(&name.as_str()).then(|| "required".to_owned()));
        rows.push_str(&format!("| `{path}` | {kind} | {} | {meaning} |\n", limits.join("; ")));
        self::rows(&path, inner, rows);
    }
}

/// `UPDATE_GOLDEN=1 cargo test --test docs` writes it anew.
#[test]
fn the_reference_has_every_field_of_both_kinds() {
    let mut text =
        "# Reference\n\nGenerated from the custom resource definitions, as `network-operator crds` prints them.\n"
            .to_owned();
    for crd in [VrfRouteConfiguration::crd(), NodeNetworkState::crd()] {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let description = schema["spec"]["description"].as_str().unwrap();
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        text.push_str(&format!(
            "\n## {kind}\n\n{description}\n\n| field | type | limits | meaning |\n| --- | --- | --- | --- |\n"
        ));
        for part in ["spec", "status"] {
            rows(part, &schema[part], &mut text);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == text,
        "docs/reference.md is not what the definitions say"
    );
}

/// The arguments of a macro call that begins here, split at its commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut arguments = vec![String::new()];
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().unwrap().push(c);
    }
    arguments.iter().map(|argument| argument.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn sources(folder: &std::path::Path, text: &mut String) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn the_table_of_log_lines_has_each_with_its_fields() {
    let mut text = String::new();
    sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let mut logged: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for level in ["error", "warn", "info"] {
        for call in text.split(&format!("tracing::{level}!(")).skip(1) {
            let arguments = arguments(call);
            let message = arguments.iter().position(|argument| argument.starts_with('"')).unwrap();
            let fields = logged.entry((level.to_owned(), arguments[message].trim_matches('"').to_owned())).or_default();
            for field in &arguments[..message] {
                let name = field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']).to_owned();
                if !fields.contains(&name) {
                    fields.push(name);
                }
            }
        }
    }
    let rows = include_str!("../docs/logs.md").lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |").unwrap_or(line).split(" | ").collect();
        let &[level, message, fields] = cells.as_slice() else { return None };
        let fields: Vec<String> =
            fields.split(", ").map(|field| field.trim_matches(['`', ' ', '|']).to_owned()).collect();
        ["error", "warn", "info"].contains(&level).then(|| {
            let fields = fields.into_iter().filter(|field| !field.is_empty()).collect();
            ((level.to_owned(), message.to_owned()), fields)
        })
    });
    let told: BTreeMap<(String, String), Vec<String>> = rows.collect();
    let explained: BTreeSet<&str> = include_str!("../docs/logs.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "))
        .flat_map(|(names, _)| names.split(", ").map(|name| name.trim_matches('`')))
        .collect();
    for (line, fields) in &logged {
        assert_eq!(told.get(line), Some(fields), "docs/logs.md: {line:?}");
        for field in fields {
            // As JSON, these are the line's own.
            assert!(!["message", "level", "timestamp"].contains(&field.as_str()), "{line:?}");
            assert!(explained.contains(field.as_str()), "docs/logs.md does not say what `{field}` means");
        }
    }
    assert_eq!(told.len(), logged.len(), "docs/logs.md has lines that are never logged");
}

/// README, docs/ and what stands beside them, by path.
fn pages() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.to_str().unwrap())).filter(|path| path.ends_with(".md"));
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "containerlab/README.md"].map(str::to_owned);
    docs.chain(top).map(|path| (path.clone(), std::fs::read_to_string(root.join(path)).unwrap())).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// What a page points to and is not there: targets of links, and paths that it names.
fn dangling(path: &str, page: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join(path).parent().unwrap().to_owned();
    let mut wrong = Vec::new();
    for target in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        if target.contains("://") {
            continue;
        }
        let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
        let aim = if file.is_empty() { root.join(path) } else { folder.join(file) };
        let text = || std::fs::read_to_string(&aim).unwrap_or_default();
        if !aim.exists() || anchor.is_some_and(|anchor| !anchors(&text()).contains(anchor)) {
            wrong.push(format!("{path}: {target}"));
        }
    }
    let of_path = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    for name in page.split(|c| !of_path(c)).map(|name| name.trim_end_matches('.')) {
        let named = ["docs/", "deploy/", "crds/", "testdata/"].iter().any(|folder| name.starts_with(folder));
        if named && !root.join(name).exists() {
            wrong.push(format!("{path}: {name}"));
        }
    }
    wrong
}

#[test]
fn each_link_and_each_path_that_a_page_names_is_there() {
    let pages = pages();
    assert!(pages.len() > 15, "{:?}", pages.keys());
    let wrong: Vec<String> = pages.iter().flat_map(|(path, page)| dangling(path, page)).collect();
    assert_eq!(wrong, [""; 0]);
    let page = "[a](metrics.md#dashboard-and-alerts) [b](nowhere.md) [c](metrics.md#nowhere) `deploy/none.yaml`, docs/ebpf.md.";
    let found = ["docs/x.md: nowhere.md", "docs/x.md: metrics.md#nowhere", "docs/x.md: deploy/none.yaml"];
    assert_eq!(dangling("docs/x.md", page), found);
}

#[test]
fn each_alert_has_its_heading_with_meaning_look_and_cure_and_no_heading_is_of_another() {
    let rules: Value =
        serde_saphyr::from_str(include_str!("../deploy/components/monitoring/prometheus-rules.yaml")).unwrap();
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
    let alerts: BTreeSet<&str> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    let page = include_str!("../docs/operations.md").split("\n## Alerts\n").nth(1).unwrap();
    assert!(!page.contains("\n## "), "the alerts stand last");
    let parts: Vec<&str> = page.split("\n### ").skip(1).collect();
    let told: BTreeSet<&str> = parts.iter().map(|part| part.lines().next().unwrap()).collect();
    assert_eq!((told, parts.len()), (alerts.clone(), alerts.len()));
    for part in parts {
        let texts = ["**Means** ", "**Look** ", "**Cure** "].map(|word| part.split(word).nth(1).unwrap_or_default());
        assert!(texts.iter().all(|text| text.split("**").next().unwrap().len() > 20), "{part}");
    }
}

/// Messages of the agent that a page quotes: in double quotes within a code span, `…` for a word of the moment.
fn quoted(page: &str) -> Vec<String> {
    let starts = page.split("`\"").skip(1);
    starts.map(|rest| rest.split("\"`").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn each_message_that_a_page_quotes_is_one_of_the_program() {
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    // What a test expects proves nothing.
    let code =
        text.split("\n//! ").map(|file| file.split("#[cfg(test)]").next().unwrap()).collect::<Vec<_>>().join("\n");
    let said = |message: &str| {
        code.lines().any(|line| {
            let parts = message.split('…').map(str::trim).filter(|part| !part.is_empty());
            let mut rest = Some(line);
            for part in parts {
                rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, rest)| rest);
            }
            rest.is_some() && line.contains('"')
        })
    };
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, page) in pages().iter().filter(|(path, _)| path.starts_with("docs/")) {
        for message in quoted(page) {
            count += 1;
            let long = message.split('…').any(|part| part.trim().len() > 5);
            if !long || !said(&message) {
                wrong.push(format!("{path}: {message}"));
            }
        }
    }
    assert!(count > 60, "{count}");
    assert_eq!(wrong, [""; 0]);
    assert!(!said("run failed; it is never tried again") && said("run failed; … tried again"));
}

#[test]
fn the_lines_of_frr_conf_that_the_concepts_show_are_those_that_are_rendered() {
    let page = include_str!("../docs/concepts.md");
    let command = page.split("```sh\n").nth(1).unwrap().split("\n```").next().unwrap().replace("\\\n", " ");
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("network-operator"));
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_network-operator"));
    let output = program.args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let rendered = String::from_utf8(output.stdout).unwrap();
    let shown: Vec<&str> = page.split("```frr\n").nth(1).unwrap().split("```").next().unwrap().lines().collect();
    assert!(shown.len() > 30);
    let mut rest = rendered.lines();
    for line in shown {
        assert!(rest.any(|rendered| rendered == line), "{line:?} is not rendered, or not in that place:\n{rendered}");
    }
    let object = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let object: Value = serde_saphyr::from_str(object).unwrap();
    let files = include_str!("../testdata/lab/manifests/blue.yaml");
    let first: Value = serde_saphyr::from_str(files.split("---").next().unwrap()).unwrap();
    assert_eq!(object, first);
}

/// All text files below a folder.
fn texts(folder: &Path, texts: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            self::texts(&path, texts);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            texts.insert(path.display().to_string(), text);
        }
    }
}

/// RFC 5737, RFC 3849, RFC 5398; the lab's Kubernetes nodes reach what is on their own link by addresses for that (RFC 3927, RFC 4291).
#[test]
fn addresses_and_as_numbers_of_labs_and_docs_are_those_for_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = pages();
    texts(&root.join("containerlab"), &mut all);
    texts(&root.join("testdata/lab"), &mut all);
    let pattern = |text: &str| regex::Regex::new(text).unwrap();
    let (v4, v6) =
        (pattern(r"\b[0-9]{1,3}(\.[0-9]{1,3}){3}\b"), pattern(r"(?i)\b[0-9a-f]{1,4}(:[0-9a-f]{1,4})*::[0-9a-f:]*"));
    let asn = pattern(r"\b(?:router bgp|remote-as|as-path prepend) ([0-9]+)");
    let good_v4 = ["192.0.2.", "198.51.100.", "203.0.113.", "127.0.0.", "169.254.", "0.0.0.0"];
    let (mut seen, mut bad) = (0, Vec::new());
    for (path, text) in &all {
        let v4 = v4.find_iter(text).map(|found| found.as_str());
        let v4 = v4.map(|found| (found, good_v4.iter().any(|good| found.starts_with(good))));
        let v6 = v6.find_iter(text).map(|found| found.as_str());
        let v6 = v6.map(|found| (found, ["2001:db8:", "fe80:"].iter().any(|good| found.starts_with(good))));
        let asn = asn.captures_iter(text).map(|found| found.get(1).unwrap().as_str());
        let asn = asn.map(|found| (found, matches!(found.parse::<u32>(), Ok(64496..=64511 | 65536..=65551))));
        for (found, good) in v4.chain(v6).chain(asn) {
            seen += 1;
            bad.extend((!good).then(|| format!("{path}: {found}")));
        }
    }
    assert_eq!(bad, [""; 0]);
    assert!(seen > 300, "{seen}");
}

#[test]
fn each_benchmark_is_run_by_make_bench_and_has_its_section() {
    let cargo = include_str!("../Cargo.toml");
    let names: Vec<&str> =
        cargo.split("[[bench]]\nname = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        assert!(include_str!("../Makefile").contains(&format!(" --bench {name}")), "{name}");
        assert!(
            include_str!("../docs/benchmarks.md")
                .lines()
                .any(|line| line.starts_with("## ") && line.ends_with(&format!("(`{name}`)"))),
            "{name}"
        );
    }
}
