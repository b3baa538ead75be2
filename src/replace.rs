//! Replaces a file in one step or not at all: after a crash it is the old one or the new one.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

/// A new file has such a name until it takes its place: `.network-operator-`, letters and digits, `.new`.
const PREFIX: &str = ".network-operator-";
const SUFFIX: &str = ".new";
const RANDOM: usize = 6;

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The new one takes its place.
    Replace,
    /// It stays, and that is an error.
    Keep,
}

/// Write, fsync, rename, fsync of the folder. The file has owner, group and mode of `like`; without it, it is for its
/// owner only.
///
/// # Errors
/// What the kernel said; the old file stands then.
pub fn replace(path: &Path, text: &str, like: Option<&Metadata>, existing: Existing) -> io::Result<()> {
    let folder = folder(path);
    let mut new = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).suffix(SUFFIX).tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    if let Some(like) = like {
        // The mode while the file is still ours: of another's, it takes CAP_FOWNER.
        new.as_file().set_permissions(like.permissions())?;
        let ours = new.as_file().metadata()?;
        if (ours.uid(), ours.gid()) != (like.uid(), like.gid()) {
            fchown(new.as_file(), Some(like.uid()), Some(like.gid()))?;
        }
    }
    new.as_file().sync_all()?;
    match existing {
        Existing::Replace => drop(new.persist(path)?),
        Existing::Keep => drop(new.persist_noclobber(path)?),
    }
    File::open(folder)?.sync_all()
}

/// Rename and fsync of the folder: for a file that is on the disk already.
///
/// # Errors
/// What the kernel said.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(folder(to))?.sync_all()
}

/// Removes what writers that were killed have left in a folder, and gives its names. For one who knows that no other
/// writes there.
///
/// # Errors
/// What the kernel said. A folder that is not there holds nothing.
pub fn clean(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_ours(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

fn is_ours(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|c| c.is_ascii_alphanumeric()))
}

/// The folder that a file is in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["one", "two"] {
            replace(&path, text, None, Existing::Replace).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(replace(&path, "three", None, Existing::Keep).is_err());
        assert_eq!((names(folder.path()), fs::read_to_string(&path).unwrap()), (vec!["file".into()], "two".into()));
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // A writer that is killed after its write and before its rename leaves just this.
        let mut left = tempfile::Builder::new();
        let left = left.prefix(PREFIX).rand_bytes(RANDOM).suffix(SUFFIX).disable_cleanup(true);
        let left = left.tempfile_in(folder.path()).unwrap().path().to_owned();
        let others =
            [".network-operator-", ".network-operator-backup", ".network-operator-notes1.new.orig", "frr.conf"];
        for name in others {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join(".network-operator-folder.new")).unwrap();
        assert_eq!(clean(folder.path()).unwrap(), [left]);
        assert_eq!(names(folder.path()).len(), others.len() + 1);
        assert!(clean(folder.path()).unwrap().is_empty());
        assert!(clean(&folder.path().join("nowhere")).unwrap().is_empty());
    }
}
