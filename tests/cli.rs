//! The command line: help with examples, exit codes, errors with their cure.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::process::{Command, Output};

fn call(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_network-operator"));
    command.args(args).env_clear().env("HOME", "/nonexistent");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_of_every_subcommand_has_an_example() {
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["validate", "--help"],
        &["plan", "--help"],
        &["status", "--help"],
        &["render", "--help"],
        &["crds", "--help"],
        &["exporter", "--help"],
    ] {
        let output = call(command);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        assert!(help.contains("Example") && help.contains("  network-operator "), "{command:?}: {help}");
    }
}

#[test]
fn run_without_a_way_to_objects_says_what_to_give() {
    let output = call(&["run", "--node-name", "n"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("KUBECONFIG") && error.contains("--manifests DIR"), "{error}");
}

#[test]
fn status_without_an_api_server_says_what_to_set() {
    let output = call(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("KUBECONFIG"), "{error}");
}

#[test]
fn a_wrong_argument_is_named_with_its_form() {
    for (args, words) in [
        (&["run", "--debounce", "soon"][..], &["--debounce", "soon", "30s"][..]),
        (&["run", "--node-name", "a b"], &["--node-name", "a b", "letters"]),
        (&["run", "--listen", "9342"], &["--listen", "9342", "127.0.0.1:9342"]),
        (&["plan", "--output", "xml"], &["--output", "xml", "json"]),
        (&["render", "-f", "x"], &["--config", "--template", "--underlay-ip", "--node-name"]),
    ] {
        let output = call(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = text(&output.stderr);
        assert!(words.iter().all(|word| error.contains(word)), "{args:?}: {error}");
    }
}

#[test]
fn plan_without_its_files_names_them() {
    let output = call(&["plan", "--node-name", "n", "--config", "/nonexistent/config.yaml", "-f", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("/nonexistent/config.yaml") && error.contains("OPERATOR_CONFIG"), "{error}");
}
