//! The operator file, and what it said when it was last good.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{ConfigError, OperatorConfig};
use crate::trigger::{Once, with_causes};

/// The operator file, and the best that is known of it.
#[derive(Debug)]
pub struct OperatorFile {
    path: PathBuf,
    known: Option<Known>,
    told: Once,
}

#[derive(Debug, Clone)]
struct Known {
    config: Arc<OperatorConfig>,
    text: String,
}

impl Known {
    fn parse(text: String, path: &Path) -> Result<Self, ConfigError> {
        Ok(Self { config: Arc::new(OperatorConfig::parse(&text, path)?), text })
    }

    fn is_whole(&self) -> bool {
        self.config.refused.is_empty()
    }
}

impl OperatorFile {
    /// Names the file, which is read at each run, and its text of the last verified run.
    pub fn new(path: PathBuf, accepted: Option<&str>) -> Self {
        let known = accepted.and_then(|text| Known::parse(text.to_owned(), &path).ok());
        Self { path, known, told: Once::default() }
    }

    /// The file as it is, or as it was when it was last good; the very same while it stays as it is.
    ///
    /// A file with a VRF that cannot be used is not good: a typing error must not take down a VRF that runs. Where
    /// nothing better was ever read, its good part is used.
    ///
    /// # Errors
    /// It cannot be used, and nothing better was ever read.
    pub fn current(&mut self) -> Result<Arc<OperatorConfig>, ConfigError> {
        let read = OperatorConfig::read(&self.path).and_then(|text| match &self.known {
            Some(known) if known.text == text => Ok(known.clone()),
            _ => Known::parse(text, &self.path),
        });
        let fault = match &read {
            Ok(now) if now.is_whole() => None,
            Ok(now) => {
                let faults = now.config.refused.values().map(|vrf| format!("{}: {}", vrf.field, vrf.reason));
                Some(faults.collect::<Vec<_>>().join("; "))
            }
            Err(error) => Some(with_causes(error)),
        };
        let kept = match (&read, &self.known) {
            (Ok(now), Some(known)) => !now.is_whole() && known.is_whole(),
            (Err(_), known) => known.is_some(),
            (Ok(_), None) => false,
        };
        self.tell(fault, kept);
        match &self.known {
            Some(known) if kept => Ok(known.config.clone()),
            _ => Ok(self.known.insert(read?).config.clone()),
        }
    }

    /// The text of what is in force; empty before anything was.
    pub fn text(&self) -> &str {
        self.known.as_ref().map_or("", |known| &known.text)
    }

    /// Each fault once, and its end.
    fn tell(&mut self, fault: Option<String>, kept: bool) {
        match &fault {
            Some(fault) if self.told.is_news(fault) => {
                tracing::error!(file = %self.path.display(), %fault, kept, "the operator file cannot be used as it is");
            }
            None if self.told.is_over() => {
                tracing::info!(file = %self.path.display(), "the operator file is good again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vnis(file: &mut OperatorFile) -> Vec<u32> {
        file.current().unwrap().vrfs.values().map(|vrf| vrf.vni.get()).collect()
    }

    #[test]
    fn a_broken_edit_of_the_operator_file_keeps_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let mut file = OperatorFile::new(path.clone(), None);
        assert!(file.current().is_err());
        std::fs::write(&path, "vnimap: {a: 1, b: 0}\n").unwrap();
        assert_eq!(vnis(&mut file), [1], "the good part, where nothing better is known");
        std::fs::write(&path, "vnimap: {").unwrap();
        assert_eq!(vnis(&mut file), [1]);
        std::fs::write(&path, "vnimap: {a: 3, b: 0}\n").unwrap();
        assert_eq!(vnis(&mut file), [3]);
        std::fs::write(&path, "vnimap: {a: 1, b: 2}\n").unwrap();
        assert_eq!(vnis(&mut file), [1, 2]);
        assert!(Arc::ptr_eq(&file.current().unwrap(), &file.current().unwrap()), "the very same");
        for broken in ["vnimap: {a: 1", "", "vnimap: {a: 1, b: 1}\n", "vnimapp: {}\n"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(vnis(&mut file), [1, 2], "{broken:?}");
            assert_eq!(file.text(), "vnimap: {a: 1, b: 2}\n");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(vnis(&mut file), [1, 2]);
        std::fs::write(&path, "vnimap: {}\n").unwrap();
        assert!(vnis(&mut file).is_empty());
    }

    #[test]
    fn at_a_start_a_broken_operator_file_gives_way_to_the_accepted_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let accepted = "vnimap: {a: 1, b: 2}\n";
        for broken in ["vnimap: {a: 1", "vnimap: {a: 0, b: 2}\n"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(vnis(&mut OperatorFile::new(path.clone(), Some(accepted))), [1, 2], "{broken:?}");
        }
        let mut file = OperatorFile::new(path.clone(), Some(accepted));
        std::fs::write(&path, "vnimap: {a: 4}\n").unwrap();
        assert_eq!(vnis(&mut file), [4], "a good file counts");
        assert_eq!(file.text(), "vnimap: {a: 4}\n");
        std::fs::remove_file(&path).unwrap();
        assert!(OperatorFile::new(path, Some("{")).current().is_err(), "what this agent cannot read is of no use");
    }
}
