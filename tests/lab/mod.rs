//! The lab: nodes with a real kernel (User-Mode Linux), systemd and FRR, networks between them, an API server.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a module of many test binaries")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a lab that fails must stop the test"
)]

mod agent;
mod apiserver;
mod attributes;
mod batch;
mod bridge;
pub mod certificate;
mod claims;
pub mod cluster;
mod container;
mod fabric;
mod foreign;
mod kubelet;
mod machine;
mod node;
mod outside;
mod program;
pub mod random;
pub mod reach;
mod sessions;
pub mod topology;

pub use agent::{Access, FROM_MANIFESTS};
pub use apiserver::ApiServer;
pub use attributes::{Expected, assert_attributes};
pub use batch::batch;
pub use bridge::{Bridge, HOST};
pub use claims::Claim;
pub use container::Container;
pub use fabric::{Fabric, LAB_MANIFESTS, MANIFESTS, Spelling, lab_file};
pub use foreign::{Foreign, foreign};
pub use kubelet::Kubelet;
pub use node::{Down, Image, Node, Output};
pub use outside::{Cpu, Outside};
pub use program::{said_under_uml, under_qemu, under_uml};
pub use sessions::{Sessions, sessions};

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};

/// The folder that `tests/lab/setup.sh` fills.
pub fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NETWORK_OPERATOR_CACHE").unwrap_or_else(|| {
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        base.expect("HOME is set").join("network-operator")
    })
}

/// A file that set-up makes.
pub fn artefact(name: &str) -> PathBuf {
    let path = cache().join(name);
    assert!(path.exists(), "{} is missing: run `tests/lab/setup.sh` as root", path.display());
    path
}

/// A short name that no other process of this machine uses at the same time.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{:x}{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

type Order = (Command, Sender<std::io::Result<Child>>);

/// Starts a process that dies with this one. The kernel ties that to the thread that starts it (PR_SET_PDEATHSIG), so
/// it is one thread that never ends, not the test's.
pub fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, incoming) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in incoming {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = channel();
    spawner.lock().unwrap().send((command, answer)).unwrap();
    child.recv().unwrap()
}
