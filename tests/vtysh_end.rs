//! The end of a program is seen, by whom ever it was run.
#![allow(clippy::unwrap_used, reason = "a test that fails must stop")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use network_operator::trigger::Trigger;
use network_operator::trigger::vtysh::watch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

async fn came(triggers: &mut mpsc::UnboundedReceiver<Trigger>, millis: u64) -> bool {
    let first = tokio::time::timeout(Duration::from_millis(millis), triggers.recv()).await;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(50), triggers.recv()).await {}
    first.is_ok()
}

/// As a package does it.
fn install(from: &str, to: &Path) {
    let new = to.with_extension("new");
    fs::copy(from, &new).unwrap();
    fs::rename(&new, to).unwrap();
}

#[tokio::test]
async fn the_end_of_the_program_is_seen_and_not_its_start_also_after_it_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("vtysh");
    let (sender, mut triggers) = mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let watcher = tokio::spawn(watch(program.clone(), sender, cancel.clone()));
    assert!(!came(&mut triggers, 50).await, "not there yet");
    for version in ["installed", "replaced"] {
        install("/bin/cat", &program);
        assert!(!came(&mut triggers, 200).await, "{version}");
        let mut session = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert!(!came(&mut triggers, 200).await, "{version}: it runs");
        drop(session.stdin.take());
        session.wait().unwrap();
        assert!(came(&mut triggers, 2000).await, "{version}: it ended");
        Command::new(folder.path().join("other")).spawn().unwrap_err();
        assert!(!came(&mut triggers, 200).await);
    }
    cancel.cancel();
    watcher.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_with_its_cure() {
    let (sender, _triggers) = mpsc::unbounded_channel();
    let error = watch("/nonexistent/vtysh".into(), sender, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/vtysh: is it mounted here"), "{error}");
}
