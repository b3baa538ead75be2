//! Certificates of the webhook, made as docs/webhook.md says, for the address where it listens in the lab.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::HOST;

/// Makes `ca.crt` with its key, and `tls.crt` with its own.
pub fn certify(folder: &Path) {
    documented(folder, "# The authority", "# The certificate");
    documented(folder, "# The certificate", "```");
}

/// Runs the commands of docs/webhook.md from one line to another one.
pub fn documented(folder: &Path, from: &str, to: &str) {
    let text = include_str!("../../docs/webhook.md");
    let (_, text) = text.split_once(from).unwrap();
    let (commands, _) = text.split_once(to).unwrap();
    let name = "DNS:network-operator-webhook.kube-system.svc";
    let commands = commands.replace(name, &format!("IP:{HOST}"));
    let output = Command::new("sh").current_dir(folder).args(["-ec", &format!("#{commands}")]).output().unwrap();
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Certificates in the form that `caBundle` has.
pub fn authorities(folder: &Path, names: &[&str]) -> String {
    let texts: Vec<Vec<u8>> = names.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect();
    BASE64_STANDARD.encode(texts.concat())
}
