//! Where the router's program and maps are pinned.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::program::{OBJECT, PROGRAM, ProgramError, Result};

/// Where the kernel's bpffs has our pins.
pub const PINS: &str = "/sys/fs/bpf/network-operator";

/// The pins of the router.
#[derive(Debug, Clone)]
pub struct Pins {
    folder: PathBuf,
    /// The program's pin carries what it was built from: another build is another program.
    program: PathBuf,
}

impl Default for Pins {
    fn default() -> Self {
        Self::new(PINS)
    }
}

impl Pins {
    /// Pins in a folder of a bpffs.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        let hash: String = Sha256::digest(OBJECT).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let program = folder.join(format!("{PROGRAM}-{hash}"));
        Self { folder, program }
    }

    /// Where the program of this build is pinned.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where all of them are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn names(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        match entries {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries.map_err(|source| ProgramError::Pin { step: "read", path: self.folder.clone(), source }),
        }
    }

    /// Whether anything is pinned.
    pub fn any(&self) -> bool {
        self.folder.exists()
    }

    fn older(&self) -> Result<Vec<PathBuf>> {
        let program = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PROGRAM));
        Ok(self.names()?.into_iter().filter(|path| program(path) && *path != self.program).collect())
    }

    /// Whether programs of other builds are pinned.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub fn has_older(&self) -> Result<bool> {
        Ok(!self.older()?.is_empty())
    }

    /// Removes the pins of other builds' programs. What filters hold stays loaded.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove_older(&self) -> Result<()> {
        self.older()?.iter().try_for_each(|path| remove(path))
    }

    /// Removes all pins.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.names()?.iter().try_for_each(|path| remove(path))?;
        match fs::remove_dir(&self.folder) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(ProgramError::Pin { step: "remove", path: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|source| ProgramError::Pin { step: "remove", path: path.to_owned(), source })
}
