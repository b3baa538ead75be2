//! What of the image can be told without a container engine: its sources are there, suffice, and reach the builder.

use std::fs;
use std::process::Command;

use crate::rendered::root;

fn containerfile() -> String {
    fs::read_to_string(root().join("deploy/Containerfile")).unwrap().replace("\\\n", " ")
}

/// What is copied from the repository.
fn sources(text: &str) -> Vec<String> {
    let copies = text.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|copy| !copy.starts_with("--from"));
    let words = copies.flat_map(|copy| {
        let mut words: Vec<&str> = copy.split_whitespace().collect();
        words.pop();
        words
    });
    words.map(str::to_owned).collect()
}

#[test]
fn what_is_copied_is_there_reaches_the_builder_and_is_all_that_cargo_asks_for() {
    let sources = sources(&containerfile());
    let folder = tempfile::tempdir().unwrap();
    let ignored = fs::read_to_string(root().join(".containerignore")).unwrap();
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"));
    // podman reads the first of them, Docker the second only.
    assert_eq!(fs::read_to_string(root().join(".dockerignore")).unwrap(), ignored);
    assert_eq!(sources, kept, "what is copied, and what .containerignore lets pass");
    for source in &sources {
        let copied = Command::new("cp").arg("-r").arg(root().join(source)).arg(folder.path()).status().unwrap();
        assert!(copied.success(), "{source}");
    }
    let cargo = |args: &[&str]| {
        let output = Command::new(env!("CARGO")).current_dir(folder.path()).args(args).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, said) = cargo(&["metadata", "--locked", "--offline", "--format-version=1"]);
    assert!(good, "{said}");
    // What the program includes while it is compiled.
    let mut texts = String::new();
    for entry in walk(&root().join("src")) {
        texts.push_str(&fs::read_to_string(entry).unwrap());
    }
    for included in texts.split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let first = included.trim_start_matches("../").split('/').next().unwrap();
        assert!(
            sources.iter().any(|source| source == first) || !included.contains("../.."),
            "{included} is not copied"
        );
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.chain(folders.iter().flat_map(|folder| walk(folder))).collect()
}

#[test]
fn the_image_is_built_with_the_packages_and_the_compiler_that_the_repository_names() {
    let text = containerfile();
    let cargo = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let rust = cargo.split_once("rust-version = \"").unwrap().1.split('"').next().unwrap();
    assert!(text.contains(&format!("FROM docker.io/library/rust:{rust}-slim-${{DEBIAN}} AS build")), "Rust {rust}");
    assert!(text.contains("cargo build --release --locked --bin network-operator"));
    let stages: Vec<&str> = text.split("\nFROM ").skip(1).collect();
    let [build, last] = stages.as_slice() else { panic!("two stages") };
    let setup = include_str!("../lab/setup.sh");
    for package in ["clang", "libbpf-dev"] {
        assert!(build.contains(package) && setup.contains(package), "{package}");
    }
    assert!(last.starts_with("docker.io/library/debian:${DEBIAN}-slim\n"), "podman may not know a short name");
    assert!(!last.contains("RUN"), "nothing is installed in the image");
    assert!(last.contains("\nUSER 65532:65532\n"));
    let (_, container) = crate::rendered::pod(
        &crate::rendered::kustomize("overlays/webhook")
            .split("\n---\n")
            .filter(|text| text.contains("kind: Deployment"))
            .collect::<String>(),
    );
    assert_eq!(container["command"], serde_json::json!(["network-operator"]));
}
