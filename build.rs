//! Compiles the eBPF router with clang, for the kernel's own machine. No headers of a running kernel are needed. Says how the program is
//! linked.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const SOURCE: &str = "src/bpf/router.bpf.c";
/// What to install where something is missing.
const CURE: &str =
    "install clang and libbpf-dev (Debian: apt-get install clang libbpf-dev libc6-dev); CLANG names another clang";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        // Half a megabyte less of relocations, which stay resident once they were read (DT_RELR; glibc 2.36 and later read it).
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("cargo sets no {name}"));
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = PathBuf::from(variable("OUT_DIR")?).join("router.bpf.o");
    // `linux/types.h` includes `asm/types.h`, which Debian keeps by machine.
    let (arch, root) = (variable("CARGO_CFG_TARGET_ARCH")?, variable("CARGO_MANIFEST_DIR")?);
    let target = if variable("CARGO_CFG_TARGET_ENDIAN")? == "big" { "bpfeb" } else { "bpfel" };
    let multiarch = format!("/usr/include/{arch}-linux-gnu");
    let output = Command::new(&clang)
        .args(["-target", target, "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-ffile-prefix-map={root}=."))
        .args(Path::new(&multiarch).exists().then(|| format!("-I{multiarch}")))
        .args(["-c", SOURCE, "-o"])
        .arg(&object)
        .output()
        .map_err(|error| format!("cannot run {clang}, which compiles {SOURCE}: {error}; {CURE}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Each line of a build script's output is an instruction of its own.
    let said = said.lines().take(5).collect::<Vec<_>>().join(" | ");
    Err(format!("{clang} does not compile {SOURCE}: {said}; where a header is missing, {CURE}"))
}
