//! A writer that is killed with SIGKILL, over and over: what is remembered is always whole.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails must stop")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use network_operator::state::{State, Store};

/// Tells this executable, started again, to be the writer.
const FOLDER: &str = "STATE_TEST_FOLDER";

/// Kills: half of them spread over the time that one write takes on this machine, so that what it does before it opens
/// a file, with the file open, and after the rename each get their share; half as soon as an unfinished file is seen,
/// however seldom that is where a disk is fast.
const ROUNDS: u32 = 60;

/// How long an unfinished file is looked for.
const LIMIT: Duration = Duration::from_secs(10);

/// A state of the writer: template and facts tell of one number, and the text is long enough to be cut.
fn state(number: u64) -> State {
    let mut state = State::default();
    let template = format!("{number}\n").repeat(20_000);
    state.accept(&[], "vnimap: {}\n", &template, jiff::Timestamp::UNIX_EPOCH);
    state.facts.tolerated.insert(format!("vr.{number}"));
    state
}

fn number(state: &State) -> u64 {
    state.facts.tolerated.first().unwrap().strip_prefix("vr.").unwrap().parse().unwrap()
}

fn writer(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(["--exact", "writes_until_it_is_killed", "--nocapture"]).env(FOLDER, folder);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// The writer; without its folder it is no test.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    let first = store.load().map_or(0, |state| state.accepted.as_ref().map_or(0, |_| number(&state) + 1));
    for now in first.. {
        store.save(&state(now)).unwrap();
        store.keep_last_good(&format!("{now}\n").repeat(20_000)).unwrap();
        println!("written");
    }
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_the_old_state_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut last, mut left) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = writer(folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut written = || assert!(lines.any(|line| line.unwrap().contains("written")), "it writes");
        written();
        let began = Instant::now();
        written();
        let one_write = began.elapsed();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        if round % 2 == 0 {
            std::thread::sleep(one_write * round / ROUNDS);
        } else {
            // Without a pause: a fast disk has the file open for some hundred microseconds.
            while names() <= 2 && began.elapsed() < LIMIT {}
        }
        child.kill().unwrap();
        child.wait().unwrap();
        left += usize::from(names() > 2);
        let store = Store::open(folder.path()).unwrap();
        let read = store.load().unwrap();
        let now = number(&read);
        assert_eq!(read, state(now), "whole");
        assert!(now >= last, "{now} after {last}");
        let conf = store.last_good().unwrap().unwrap();
        let line = conf.lines().next().unwrap();
        assert_eq!(conf, format!("{line}\n").repeat(20_000));
        assert_eq!(names(), 2, "what was left is removed");
        last = now;
    }
    assert!(left > 0, "no round was killed within a write");
}
