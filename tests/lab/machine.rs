//! A machine of User-Mode Linux, from power on to power off, driven over its second console.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How often a machine is told to look whether a packet, or a line on its console, waits for it.
const NUDGE: Duration = Duration::from_millis(100);
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// A running machine; it ends with this value.
pub(super) struct Machine {
    child: Arc<Mutex<Child>>,
    line: Mutex<File>,
    waiting: Waiting,
}

type Waiting = Arc<Mutex<HashMap<u64, Sender<i32>>>>;

impl Machine {
    /// Starts what `command` makes of the two ends of its console, and waits until commands are taken, or for as long as a boot may take.
    pub fn power_on(command: impl FnOnce(&File, &File) -> Command) -> Option<Self> {
        let (input, line) = pipe();
        let (answers, output) = pipe();
        let child = super::spawn(command(&input, &output)).expect("start linux.uml");
        // Its end is the end of its answers.
        drop((input, output));
        let waiting = Waiting::default();
        let (ready, is_ready) = channel();
        let table = waiting.clone();
        std::thread::spawn(move || listen(answers, &table, &ready));
        let machine = Self { child: Arc::new(Mutex::new(child)), line: Mutex::new(line), waiting };
        is_ready.recv_timeout(BOOT_LIMIT).ok()?;
        let child = Arc::downgrade(&machine.child);
        std::thread::spawn(move || nudge(&child));
        Some(machine)
    }

    /// Its process group.
    pub fn group(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Begins the command of a number, and gives what its end is told on.
    pub fn begin(&self, id: u64) -> Receiver<i32> {
        let (sender, receiver) = channel();
        self.waiting.lock().unwrap().insert(id, sender);
        self.line.lock().unwrap().write_all(format!("{id}\n").as_bytes()).expect("the node listens");
        receiver
    }

    /// Whether it has gone down.
    pub fn is_down(&self) -> bool {
        running(&mut self.child.lock().unwrap()).is_none()
    }

    /// Ends it where it still runs.
    pub fn power_off(&self) {
        let mut child = self.child.lock().unwrap();
        if let Some(pid) = running(&mut child) {
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// Its process number while it is not waited for: that of a process that is gone may be somebody else's.
fn running(child: &mut Child) -> Option<Pid> {
    let runs = child.try_wait().is_ok_and(|status| status.is_none());
    runs.then(|| Pid::from_raw(i32::try_from(child.id()).unwrap()))
}

/// Has a machine look for what came, until it is off.
///
/// User-Mode Linux 6.1 now and then misses the SIGIO of a packet: it is not read before the next signal, which on a quiet machine took up
/// to 15 s, once in about 3,000 datagrams. Each that was late came within 0.3 s of a SIGIO sent from outside.
fn nudge(child: &Weak<Mutex<Child>>) {
    while let Some(child) = child.upgrade() {
        let nudged = running(&mut child.lock().unwrap()).is_some_and(|pid| kill(pid, Signal::SIGIO).is_ok());
        drop(child);
        if !nudged {
            return;
        }
        std::thread::sleep(NUDGE);
    }
}

fn pipe() -> (File, File) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    (read.into(), write.into())
}

/// Hands the machine's answers to those who wait for them.
fn listen(answers: File, waiting: &Mutex<HashMap<u64, Sender<i32>>>, ready: &Sender<()>) {
    for line in BufReader::new(answers).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [.., "LAB", "READY"] => drop(ready.send(())),
            ["DONE", id, status] => {
                let sender = id.parse().ok().and_then(|id: u64| waiting.lock().unwrap().remove(&id));
                if let Some(sender) = sender {
                    let _ = sender.send(status.parse().unwrap_or(-1));
                }
            }
            _ => {}
        }
    }
}
