//! A node: a machine on a copy-on-write image.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::machine::Machine;
use super::{Bridge, artefact, unique};

/// The Debian releases that the lab has nodes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Debian 12, FRR 8.4.4.
    Bookworm,
    /// Debian 13, FRR 10.3.
    Trixie,
}

impl Image {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// What `show version` begins with.
    pub fn frr(self) -> &'static str {
        match self {
            Self::Bookworm => "8.4.4",
            Self::Trixie => "10.3",
        }
    }

    fn path(self) -> PathBuf {
        artefact(match self {
            Self::Bookworm => "images/bookworm.ext4",
            Self::Trixie => "images/trixie.ext4",
        })
    }
}

/// What a command in a node left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// What a node is made of.
pub struct Builder {
    name: String,
    image: Image,
    memory_mb: u32,
    one_core: bool,
    files: Vec<(String, Vec<u8>)>,
    boot: String,
    nics: Vec<(String, String)>,
    /// systemd derives the MAC of vec0 from it, so that it stays over a reboot.
    machine_id: String,
}

/// How a node goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// systemd stops its services.
    Clean,
    /// What the kernel has not written yet is lost.
    PowerLoss,
}

/// A running node; it ends with this value.
pub struct Node {
    builder: Builder,
    machine: Machine,
    /// Goes after the machine that runs on it.
    folder: tempfile::TempDir,
    next: AtomicU64,
}

const DOWN_LIMIT: Duration = Duration::from_secs(120);
const COMMAND_LIMIT: Duration = Duration::from_secs(180);

impl Builder {
    /// Memory in MB.
    pub fn memory_mb(mut self, mb: u32) -> Self {
        self.memory_mb = mb;
        self
    }

    /// Keeps it to one core of this machine: its processes take turns, and who sleeps meanwhile on another core takes long to wake.
    pub fn on_one_core(mut self) -> Self {
        self.one_core = true;
        self
    }

    /// A file that is there before FRR starts.
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((path.to_owned(), content.as_ref().to_vec()));
        self
    }

    /// Shell commands that run before FRR starts.
    pub fn boot_script(mut self, script: &str) -> Self {
        self.boot.push_str(script);
        self.boot.push('\n');
        self
    }

    /// The next `vecN`, on a bridge.
    pub fn nic(self, bridge: &Bridge) -> Self {
        self.nic_on(bridge, "br0")
    }

    /// The next `vecN`, on a segment that was made beside the bridge.
    pub fn nic_on(mut self, bridge: &Bridge, segment: &str) -> Self {
        self.nics.push((bridge.netns().to_owned(), bridge.tap(segment)));
        self
    }

    /// Boots, and waits until commands are taken.
    pub fn boot(self) -> Node {
        let folder = tempfile::Builder::new().prefix("lab-").tempdir_in("/dev/shm").expect("a folder in /dev/shm");
        let share = folder.path().join("share");
        for (path, content) in &self.files {
            let file = share.join("files").join(path.trim_start_matches('/'));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        fs::create_dir_all(&share).unwrap();
        if !self.boot.is_empty() {
            fs::write(share.join("boot.sh"), &self.boot).unwrap();
        }
        let machine = self.power_on(folder.path());
        Node { builder: self, machine, folder, next: AtomicU64::new(0) }
    }

    /// Starts the machine on what is in the folder, and waits until commands are taken.
    fn power_on(&self, folder: &Path) -> Machine {
        Machine::power_on(|input, output| self.command(folder, &folder.join("share"), input, output))
            .unwrap_or_else(|| panic!("node {} did not boot:\n{}", self.name, console(folder)))
    }

    fn command(&self, folder: &Path, share: &Path, input: &File, output: &File) -> Command {
        let (input, output) = (input.as_raw_fd(), output.as_raw_fd());
        let binaries = env!("CARGO_BIN_EXE_network-operator");
        let binaries = Path::new(binaries).parent().unwrap();
        let mut words = vec!["linux.uml"];
        if let Some((netns, _)) = self.nics.first() {
            words.splice(0..0, ["ip", "netns", "exec", netns]);
        }
        if self.one_core {
            words.splice(0..0, ["taskset", "-c", "0"]);
        }
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
            .arg(format!("mem={}M", self.memory_mb))
            .arg(format!("ubd0={},{}", folder.join("cow").display(), self.image.path().display()))
            .args(["root=/dev/ubda", "rw", "quiet", "con=null", "con0=null,fd:1", "systemd.show_status=0"])
            .arg(format!("con1=fd:{input},fd:{output}"))
            .arg(format!("systemd.machine_id={}", self.machine_id))
            .arg(format!("lab.hostname={}", self.name))
            .arg(format!("lab.share={}", share.display()))
            .arg(format!("lab.bin={}", binaries.display()))
            .arg(format!("uml_dir={}", folder.display()));
        for (index, (_, tap)) in self.nics.iter().enumerate() {
            command.arg(format!("vec{index}:transport=tap,ifname={tap},depth=64,gro=1"));
        }
        let console = File::options().create(true).append(true).open(folder.join("console")).unwrap();
        command.env("TMPDIR", folder).stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        command.process_group(0);
        let parent = nix::unistd::getpid();
        // SAFETY: only async-signal-safe calls between fork and exec.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                for fd in [input, output] {
                    let fd = std::os::fd::BorrowedFd::borrow_raw(fd);
                    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
                }
                // The runner may have died before the signal was asked for.
                if nix::unistd::getppid() != parent { Err(std::io::ErrorKind::Interrupted.into()) } else { Ok(()) }
            });
        }
        command
    }
}

fn console(folder: &Path) -> String {
    fs::read(folder.join("console")).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

impl Node {
    /// From now on it comes first on the cores of this machine: what is timed on it is its own doing then, and not that of the nodes
    /// beside it.
    pub fn comes_first(&self) {
        let done = Command::new("renice").args(["-n", "-10", "-g", &self.group().to_string()]).output().unwrap();
        assert!(done.status.success(), "renice: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The process group of the machine.
    pub(super) fn group(&self) -> u32 {
        self.machine.group()
    }

    /// Begins a node of a name and image.
    pub fn builder(name: &str, image: Image) -> Builder {
        let id: String = unique("").bytes().chain(name.bytes()).map(|byte| format!("{byte:02x}")).collect();
        let machine_id = format!("{:0<32.32}", format!("{id}0123456789abcdef0123456789abcdef"));
        let (files, nics) = (vec![], vec![]);
        Builder {
            name: name.into(),
            image,
            memory_mb: 512,
            one_core: false,
            files,
            boot: String::new(),
            nics,
            machine_id,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.builder.name
    }

    /// What it printed while booting and since.
    pub fn console(&self) -> String {
        console(self.folder.path())
    }

    /// Begins a command and gives what its end is told on.
    fn start(&self, command: &str) -> (u64, Receiver<i32>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        fs::write(self.share(&format!("cmd.{id}")), command).unwrap();
        (id, self.machine.begin(id))
    }

    /// Runs a shell command.
    pub fn run(&self, command: &str) -> Output {
        let (id, end) = self.start(command);
        let Ok(status) = end.recv_timeout(COMMAND_LIMIT) else {
            panic!("node {}: no answer to `{command}`; console:\n{}", self.name(), self.console());
        };
        let read = |name: &str| {
            let path = self.share(&format!("{name}.{id}"));
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            let _ = fs::remove_file(path);
            text
        };
        let _ = fs::remove_file(self.share(&format!("cmd.{id}")));
        Output { status, stdout: read("out"), stderr: read("err") }
    }

    /// Runs a shell command that must succeed, and gives its standard output.
    pub fn ok(&self, command: &str) -> String {
        let output = self.run(command);
        let Output { status, stdout, stderr } = &output;
        assert!(*status == 0, "node {}: `{command}` ended with {status}:\n{stdout}\n{stderr}", self.name());
        output.stdout
    }

    /// Runs a command that prints JSON.
    pub fn json(&self, command: &str) -> serde_json::Value {
        let text = self.ok(command);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("`{command}`: {error}:\n{text}"))
    }

    /// Asks FRR.
    pub fn vtysh(&self, command: &str) -> String {
        self.ok(&format!("vtysh -c '{command}'"))
    }

    /// Writes a file.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let name = unique("f");
        fs::write(self.share(&name), content).unwrap();
        self.ok(&format!("mkdir -p \"$(dirname {path})\" && cp /lab/{name} {path}.lab && mv {path}.lab {path}"));
        fs::remove_file(self.share(&name)).unwrap();
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> String {
        self.ok(&format!("cat {path}"))
    }

    /// Asks again until the answer is Ok; says what was last seen where it never is. Between two answers the node has as long for its own
    /// work as one took, up to two seconds.
    pub fn wait<T>(&self, what: &str, limit: Duration, mut ask: impl FnMut(&Self) -> Result<T, String>) -> T {
        let begin = Instant::now();
        loop {
            let asked = Instant::now();
            match ask(self) {
                Ok(answer) => return answer,
                Err(seen) if begin.elapsed() > limit => {
                    let (name, words) = (self.name(), self.last_words());
                    panic!("node {name}: {what}: not within {limit:?}; last seen: {seen}\n{words}")
                }
                Err(_) => std::thread::sleep(asked.elapsed().clamp(Duration::from_millis(200), Duration::from_secs(2))),
            }
        }
    }

    /// Where the node's `/lab/NAME` is here. What one writes, the other reads, at no cost to the node.
    pub fn share(&self, name: &str) -> PathBuf {
        self.folder.path().join("share").join(name)
    }

    /// Goes down, and boots the same disk again. The boot script runs again; the files are those that the disk has.
    pub fn reboot(&mut self, down: Down) {
        if down == Down::Clean {
            self.start("systemctl poweroff");
            let begin = Instant::now();
            while !self.machine.is_down() {
                assert!(begin.elapsed() < DOWN_LIMIT, "node {} does not go down:\n{}", self.name(), self.console());
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        self.machine.power_off();
        let _ = fs::remove_dir_all(self.share("files"));
        self.machine = self.builder.power_on(self.folder.path());
    }
}
