//! frr.conf and its template on disk: read, and replaced in one step or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::replace::{self, Existing};

/// The two files.
#[derive(Debug, Clone)]
pub struct FrrFiles {
    conf: PathBuf,
    template: PathBuf,
    /// What is looked at before it becomes the configuration.
    staged: PathBuf,
}

/// A file that could not be read or replaced; what was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading failed.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Writing the new file beside the old one, or renaming it, failed.
    #[error(
        "replace {path}: the folder must be writable, because the new file is written beside the old one and renamed"
    )]
    Replace {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is neither a template nor a configuration to make it of.
    #[error("neither {template} nor {conf} is there: write the node's FRR configuration, with hints, to {template}")]
    NoTemplate {
        /// Where the template belongs.
        template: PathBuf,
        /// What it is made of otherwise.
        conf: PathBuf,
    },
}

impl FrrFiles {
    /// Names the configuration; the template stands beside it as `<name>.tpl`.
    pub fn new(conf: impl Into<PathBuf>) -> Self {
        let conf = conf.into();
        let [template, staged] = ["tpl", "staged"].map(|end| conf.with_added_extension(end));
        Self { conf, template, staged }
    }

    /// Path of the configuration.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// Path of the template.
    pub fn template(&self) -> &Path {
        &self.template
    }

    /// The configuration as it is; `None` where there is none yet.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read_conf(&self) -> Result<Option<String>, FileError> {
        read(&self.conf)
    }

    /// The template, or what it would be made of: frr.conf. Writes nothing.
    ///
    /// # Errors
    /// Neither can be read.
    pub fn read_template(&self) -> Result<String, FileError> {
        match read(&self.template)? {
            Some(text) => Ok(text),
            None => self
                .read_conf()?
                .ok_or_else(|| FileError::NoTemplate { template: self.template.clone(), conf: self.conf.clone() }),
        }
    }

    /// Makes the template of frr.conf, at first start only: one that is there is never written.
    ///
    /// # Errors
    /// There is nothing to make it of, or it cannot be written.
    pub fn ensure_template(&self) -> Result<bool, FileError> {
        if read(&self.template)?.is_some() {
            return Ok(false);
        }
        let text = self.read_template()?;
        let like = fs::metadata(&self.conf).ok();
        replace(&self.template, &text, like.as_ref(), Existing::Keep)?;
        Ok(true)
    }

    /// Writes a text beside the configuration, with owner, group and mode of that, to be looked at before it takes its
    /// place. Gives where it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn stage(&self, text: &str) -> Result<&Path, FileError> {
        replace(&self.staged, text, self.like().as_ref(), Existing::Replace)?;
        Ok(&self.staged)
    }

    /// What was staged and is still there: somebody was killed with it.
    pub fn read_staged(&self) -> Option<String> {
        read(&self.staged).ok().flatten()
    }

    /// Removes what was staged.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.staged);
    }

    /// What was staged takes the place of the configuration.
    ///
    /// # Errors
    /// The old one stands then.
    pub fn commit(&self) -> Result<(), FileError> {
        let renamed = replace::rename(&self.staged, &self.conf);
        renamed.map_err(|source| FileError::Replace { path: self.conf.clone(), source })
    }

    /// Removes what an agent that was killed has left beside frr.conf, and gives its names. For one who knows that no other agent runs here.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clean(&self) -> Result<Vec<PathBuf>, FileError> {
        let folder = replace::folder(&self.conf);
        let mut removed =
            replace::clean(folder).map_err(|source| FileError::Replace { path: self.conf.clone(), source })?;
        for path in [self.staged.clone(), self.staged.with_added_extension("check")] {
            match fs::remove_file(&path) {
                Ok(()) => removed.push(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(FileError::Replace { path, source }),
            }
        }
        Ok(removed)
    }

    /// Whose owner, group and mode a new configuration has.
    fn like(&self) -> Option<fs::Metadata> {
        fs::metadata(&self.conf).or_else(|_| fs::metadata(&self.template)).ok()
    }
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: path.to_owned(), source }),
    }
}

fn replace(path: &Path, text: &str, like: Option<&fs::Metadata>, existing: Existing) -> Result<(), FileError> {
    let replaced = replace::replace(path, text, like, existing);
    replaced.map_err(|source| FileError::Replace { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn files() -> (tempfile::TempDir, FrrFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = FrrFiles::new(folder.path().join("frr.conf"));
        (folder, files)
    }

    #[test]
    fn the_template_is_made_once_and_never_overwritten() {
        let (_folder, files) = files();
        fs::write(files.conf(), "first\n").unwrap();
        assert!(files.ensure_template().unwrap());
        fs::write(files.conf(), "second\n").unwrap();
        assert!(!files.ensure_template().unwrap());
        assert_eq!(files.read_template().unwrap(), "first\n");
    }

    #[test]
    fn without_template_and_configuration_the_error_says_what_to_write() {
        let (_folder, files) = files();
        assert!(files.ensure_template().unwrap_err().to_string().contains("frr.conf.tpl"));
    }

    #[test]
    fn mode_and_owner_are_those_of_the_old_file_and_nothing_is_left_beside_it() {
        let (folder, files) = files();
        fs::write(files.conf(), "old\n").unwrap();
        fs::set_permissions(files.conf(), fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(files.conf()).unwrap();
        files.stage("other\n").unwrap();
        files.discard();
        files.stage("new\n").unwrap();
        assert_eq!(files.read_conf().unwrap().as_deref(), Some("old\n"));
        files.commit().unwrap();
        let after = fs::metadata(files.conf()).unwrap();
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
        assert_eq!(files.read_conf().unwrap().as_deref(), Some("new\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_agent_left_is_removed_and_nothing_else() {
        let (folder, files) = files();
        for name in [".network-operator-a1B2c3.new", "frr.conf.staged", "frr.conf.staged.check"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let stay = ["frr.conf", "frr.conf.tpl", "frr.conf.old", "frr.conf.staged.mine"];
        for name in stay {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(files.clean().unwrap().len(), 3);
        assert!(stay.iter().all(|name| folder.path().join(name).exists()));
        assert!(files.clean().unwrap().is_empty());
        assert!(FrrFiles::new("/nonexistent/frr.conf").clean().unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be_written_leaves_the_old_text() {
        let files = FrrFiles::new("/proc/self/frr.conf");
        assert!(matches!(files.stage("x"), Err(FileError::Replace { .. })));
        assert!(matches!(files.commit(), Err(FileError::Replace { .. })));
    }
}
