//! A machine of User-Mode Linux, from power on to power off, driven over its second console.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// A running machine; it ends with this value.
pub(super) struct Machine {
    child: Child,
    group: u32,
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
        let group = child.id();
        let machine = Self { child, group, line: Mutex::new(line), waiting };
        is_ready.recv_timeout(BOOT_LIMIT).is_ok().then_some(machine)
    }

    /// Its process group.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Begins the command of a number, and gives what its end is told on.
    pub fn begin(&self, id: u64) -> Receiver<i32> {
        let (sender, receiver) = channel();
        self.waiting.lock().unwrap().insert(id, sender);
        self.line.lock().unwrap().write_all(format!("{id}\n").as_bytes()).expect("the node listens");
        receiver
    }

    /// Whether it has gone down.
    pub fn is_down(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Ends it where it still runs.
    pub fn power_off(&mut self) {
        // The number of a process that is gone may be somebody else's.
        if !self.is_down() {
            let _ = killpg(Pid::from_raw(i32::try_from(self.group).unwrap()), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
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
