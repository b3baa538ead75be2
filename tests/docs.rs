//! What docs/ says of the program is what the program says of itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::collections::{BTreeMap, BTreeSet};

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
