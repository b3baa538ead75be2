//! The folder of the state: one agent works with it, and each file in it is the old one or the new one.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::document::State;
use crate::replace::{self, Existing};

const STATE: &str = "state.json";
const LAST_GOOD: &str = "last-good.conf";

/// The folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// The folder, locked: the kernel lets go of it with the agent, however that ends.
    _lock: File,
}

/// A file that was saved, told from others by what changes with each of its writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Saved {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Ok(Self { inode: metadata.ino(), bytes: metadata.len(), changed })
    }
}

/// Why nothing can be remembered.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder is not as it must be.
    #[error(
        "keep state in {path}: it must be a folder that the agent may write: make it so (in a pod: mount it from the node), or name another one with --state-dir"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another agent has the folder.
    #[error("another network-operator works with {path}: a node has one agent; stop the other one")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// What is remembered cannot be used.
    #[error("{path} cannot be used: {fault}; it {}", match aside { Some(aside) => format!("was put aside as {}", aside.display()), None => "could not be put aside".to_owned() })]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
        /// Where it is now.
        aside: Option<PathBuf>,
    },
    /// A file is there and cannot be read.
    #[error("read {path}: remove it if it stays so; it is written again")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written; what was there before is still there.
    #[error(
        "write {path}: is there room, and may the folder be written? Until then a restart begins with older inputs"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Store {
    /// Opens the folder, makes it where it is missing, and removes what a killed agent has left in it.
    ///
    /// # Errors
    /// It cannot be made or written, or another agent has it. Nothing is changed then.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Folder { path: folder.to_owned(), source };
        make(folder).map_err(failed)?;
        let lock = File::open(folder).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::InUse { path: folder.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        // A file without a name: whether one can be written is known, and nothing is left.
        tempfile::tempfile_in(folder).map_err(failed)?;
        let removed = replace::clean(folder).map_err(failed)?;
        if !removed.is_empty() {
            tracing::info!(?removed, "removed what an agent that was killed has left");
        }
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// What is remembered; the default where nothing is.
    ///
    /// # Errors
    /// The file cannot be used. It has been put aside, so that this is told once, and counts as absent.
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.state();
        let fault = match fs::read_to_string(&path) {
            Ok(text) => match State::decode(&text) {
                Ok(state) => return Ok(state),
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => error.to_string(),
        };
        let aside = path.with_added_extension("broken");
        let aside = replace::rename(&path, &aside).is_ok().then_some(aside);
        Err(StateError::Broken { path, fault, aside })
    }

    /// Whether the file is the one that was saved.
    pub fn holds(&self, saved: &Saved) -> bool {
        Saved::of(&self.state()).is_ok_and(|there| there == *saved)
    }

    /// Remembers. Where the file says the same already, nothing is written.
    ///
    /// # Errors
    /// What was remembered before still is.
    pub fn save(&self, state: &State) -> Result<Saved, StateError> {
        let path = self.state();
        let failed = |source| StateError::Write { path: path.clone(), source };
        let text = state.encode().map_err(|error| failed(error.into()))?;
        write(&path, &text)?;
        Saved::of(&path).map_err(failed)
    }

    /// The text of frr.conf that was last found good; `None` where none was yet.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn last_good(&self) -> Result<Option<String>, StateError> {
        let path = self.last_good_conf();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Remembers a text of frr.conf that was found good. Where it is remembered already, nothing is written.
    ///
    /// # Errors
    /// The one before is still there.
    pub fn keep_last_good(&self, text: &str) -> Result<(), StateError> {
        write(&self.last_good_conf(), text)
    }

    /// What an agent remembers in a folder, for whoever only looks: nothing is locked, made or put aside, and what cannot be
    /// read counts as absent.
    pub fn peek(folder: &Path) -> (State, Option<String>) {
        let state = fs::read_to_string(folder.join(STATE)).ok().and_then(|text| State::decode(&text).ok());
        (state.unwrap_or_default(), fs::read_to_string(folder.join(LAST_GOOD)).ok())
    }

    fn state(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    fn last_good_conf(&self) -> PathBuf {
        self.folder.join(LAST_GOOD)
    }
}

/// Templates may hold passwords: the folder is for its owner only.
fn make(folder: &Path) -> io::Result<()> {
    let parent = replace::folder(folder);
    fs::create_dir_all(parent)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => File::open(parent)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is on the disk counts, not what was written last: somebody may have removed it.
fn write(path: &Path, text: &str) -> Result<(), StateError> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let written = replace::replace(path, text, None, Existing::Replace);
    written.map_err(|source| StateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(template: &str) -> State {
        let mut state = State::default();
        state.accept(&[], "vnimap: {}\n", template, jiff::Timestamp::UNIX_EPOCH);
        state
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_folder_is_made_for_its_owner_only_and_remembers_over_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lib/network-operator");
        let store = Store::open(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(store.load().unwrap(), State::default());
        assert_eq!(store.last_good().unwrap(), None);
        store.save(&state("t")).unwrap();
        store.keep_last_good("conf\n").unwrap();
        drop(store);
        let store = Store::open(&folder).unwrap();
        assert_eq!(store.load().unwrap(), state("t"));
        assert_eq!(store.last_good().unwrap().as_deref(), Some("conf\n"));
        assert_eq!(names(&folder), ["last-good.conf", "state.json"]);
        assert_eq!(fs::metadata(folder.join("state.json")).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_is_remembered_already_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let files = ["state.json", "last-good.conf"].map(|name| folder.path().join(name));
        let inodes = || files.clone().map(|path| fs::metadata(path).unwrap().ino());
        store.save(&state("t")).unwrap();
        store.keep_last_good("conf\n").unwrap();
        let before = inodes();
        store.save(&state("t")).unwrap();
        store.keep_last_good("conf\n").unwrap();
        assert_eq!(inodes(), before);
        fs::remove_file(&files[0]).unwrap();
        store.save(&state("t")).unwrap();
        assert_eq!(store.load().unwrap(), state("t"), "one that somebody removed is written");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_put_aside_and_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for (text, words) in [("{\"version\"", "EOF"), ("{\"version\": 2}", "newer"), ("", "EOF")] {
            fs::write(&path, text).unwrap();
            let store = Store::open(folder.path()).unwrap();
            let error = store.load().unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains("put aside as") && error.contains("state.json.broken"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(folder.path().join("state.json.broken")).unwrap(), text);
            assert_eq!(store.load().unwrap(), State::default());
        }
        fs::create_dir(&path).unwrap();
        let aside = folder.path().join("state.json.broken");
        fs::remove_file(&aside).unwrap();
        Store::open(folder.path()).unwrap().load().unwrap_err();
        assert!(aside.is_dir());
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".network-operator-a1B2c3.new"), "{\"ver").unwrap();
        fs::write(folder.path().join("note"), "").unwrap();
        Store::open(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["note"]);
    }

    #[test]
    fn one_agent_at_a_time_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StateError::InUse { .. })));
        drop(store);
        Store::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_with_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &file.join("below"), Path::new("/proc/self")] {
            let error = Store::open(path).unwrap_err();
            assert!(matches!(error, StateError::Folder { .. }), "{error:?}");
            assert!(error.to_string().contains("--state-dir"), "{error}");
        }
        let store = Store::open(folder.path()).unwrap();
        fs::create_dir(folder.path().join("state.json")).unwrap();
        assert!(matches!(store.save(&state("t")), Err(StateError::Write { .. })));
    }
}
