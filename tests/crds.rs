//! The files in `crds/` are what the program prints.
#![allow(clippy::unwrap_used, reason = "a test that fails must stop")]

#[test]
fn the_files_in_crds_are_the_output_of_the_program() {
    let files = [
        include_str!("../crds/network.schiff.telekom.de_vrfrouteconfigurations.yaml"),
        include_str!("../crds/network.schiff.telekom.de_nodenetworkstates.yaml"),
    ];
    let printed =
        std::process::Command::new(env!("CARGO_BIN_EXE_network-operator")).arg("crds").output().unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();
    assert!(
        files.join("---\n") == printed,
        "they differ; `network-operator crds` prints them with a line of --- between them"
    );
}
