//! One test under a kernel with VRFs: the test executable runs itself again, under User-Mode Linux on the host's root, or
//! under QEMU.

use std::fs;
use std::process::{Command, Stdio};

use super::artefact;

const MARKER: &str = "NETWORK_OPERATOR_IN_GUEST";

/// Runs the test of that name again under QEMU with Debian's cloud kernel, and fails as it fails there. Gives `false` where it runs
/// there already, so that the test goes on. For what User-Mode Linux lacks (nftables of family inet); it takes longer.
pub fn under_qemu(test: &str) -> bool {
    if std::env::var_os(MARKER).is_some() {
        return false;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/guest.sh");
    let output = Command::new(script).arg(artefact("kernel")).arg(std::env::current_exe().unwrap()).arg(test).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{test} failed under QEMU:\n{}", String::from_utf8_lossy(&said));
    true
}

/// Runs the test of that name again under User-Mode Linux, and fails as it fails there. Gives `false` where it runs there
/// already, so that the test goes on.
pub fn under_uml(test: &str) -> bool {
    said_under_uml(test).is_some()
}

/// The same; gives what it said there.
pub fn said_under_uml(test: &str) -> Option<String> {
    if std::env::var_os(MARKER).is_some() {
        return None;
    }
    let folder = tempfile::Builder::new().prefix("lab-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (init, result) = (folder.path().join("init.sh"), folder.path().join("result"));
    let executable = std::env::current_exe().unwrap();
    // hostfs has the host's root: everything but the result is written to a tmpfs of the guest's own.
    let script = format!(
        "#!/bin/sh\nmount -t proc none /proc; mount -t sysfs none /sys; mount -t tmpfs none /run\n\
         mount -t hostfs none /mnt -o {folder}\n\
         ip link set lo up\n\
         for m in vrf vxlan bridge veth dummy; do modprobe $m; done\n\
         export {MARKER}=1 PATH={path} HOME=/run TMPDIR=/run RUST_BACKTRACE=0\n\
         '{executable}' --exact '{test}' --nocapture --test-threads 1 >/mnt/output 2>&1\n\
         echo $? >/mnt/result; sync; echo o >/proc/sysrq-trigger; sleep 9\n",
        folder = folder.path().display(),
        path = std::env::var("PATH").unwrap_or_default(),
        executable = executable.display(),
    );
    fs::write(&init, script).unwrap();
    Command::new("chmod").arg("755").arg(&init).status().unwrap();
    let output = Command::new("linux.uml")
        .args([
            "mem=512M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            "con=null",
            "con0=null,fd:1",
            "quiet",
        ])
        .arg(format!("init={}", init.display()))
        .arg(format!("uml_dir={}", folder.path().display()))
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("linux.uml is installed: run `tests/lab/setup.sh` as root");
    let said = fs::read(folder.path().join("output")).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let status = fs::read_to_string(result).unwrap_or_default();
    assert!(
        status.trim() == "0",
        "{test} failed under User-Mode Linux (status {:?}):\n{}\n{}",
        status.trim(),
        said,
        String::from_utf8_lossy(&output.stdout)
    );
    Some(said)
}
