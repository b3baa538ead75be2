//! Inputs that are read again and again: a broken edit keeps the last good one.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{ConfigError, OperatorConfig};
use crate::trigger::kube::KubeObjects;
use crate::trigger::manifests::{ManifestError, read_manifests};
use crate::trigger::{Objects, with_causes};

/// The operator file, and what it said when it was last good.
#[derive(Debug)]
pub struct OperatorFile {
    path: PathBuf,
    good: Option<Arc<OperatorConfig>>,
    told: Option<String>,
}

/// Where objects come from.
#[derive(Debug)]
pub enum ObjectSource {
    /// The API server.
    Kube(KubeObjects),
    /// Files.
    Manifests {
        /// A folder or a file.
        path: PathBuf,
        /// What they held when they could last be read to their end.
        good: Option<Objects>,
        /// The fault that was told last.
        told: Option<String>,
    },
}

impl OperatorFile {
    /// Names the file; it is read at each run.
    pub fn new(path: PathBuf) -> Self {
        Self { path, good: None, told: None }
    }

    /// The file as it is, or as it was when it was last good.
    ///
    /// A file with a VRF that cannot be used is not good: a typing error must not take down a VRF that runs. Where
    /// nothing better was ever read, its good part is used.
    ///
    /// # Errors
    /// It cannot be used, and nothing better was ever read.
    pub fn current(&mut self) -> Result<Arc<OperatorConfig>, ConfigError> {
        let (fault, usable) = match OperatorConfig::load(&self.path) {
            Ok(config) if config.refused.is_empty() => {
                if self.told.take().is_some() {
                    tracing::info!(file = %self.path.display(), "the operator file is good again");
                }
                let config = Arc::new(config);
                self.good = Some(config.clone());
                return Ok(config);
            }
            Ok(config) => {
                let faults = config.refused.values().map(|vrf| format!("{}: {}", vrf.field, vrf.reason));
                (faults.collect::<Vec<_>>().join("; "), Ok(Arc::new(config)))
            }
            Err(error) => (with_causes(&error), Err(error)),
        };
        if self.told.as_ref() != Some(&fault) {
            let kept = self.good.is_some();
            tracing::error!(file = %self.path.display(), %fault, kept, "the operator file cannot be used as it is");
            self.told = Some(fault);
        }
        self.good.clone().map_or(usable, Ok)
    }
}

impl ObjectSource {
    /// Objects from a folder or a file.
    pub fn manifests(path: PathBuf) -> Self {
        Self::Manifests { path, good: None, told: None }
    }

    /// The objects; `None` while nobody has told which there are.
    ///
    /// A file that breaks off may hold objects behind the break: then what was last read whole stands. Where nothing
    /// was, the objects that can be read are used. An empty folder that can be read holds no objects.
    ///
    /// # Errors
    /// The files cannot be read, and never could.
    pub fn current(&mut self) -> Result<Option<Objects>, ManifestError> {
        let (path, good, told) = match self {
            Self::Kube(objects) => return Ok(objects.snapshot()),
            Self::Manifests { path, good, told } => (path, good, told),
        };
        let (fault, usable) = match read_manifests(std::slice::from_ref(path)) {
            Ok(manifests) => {
                let objects = Objects { objects: manifests.objects, unreadable: manifests.unreadable };
                if !manifests.incomplete {
                    *told = None;
                    *good = Some(objects.clone());
                    return Ok(Some(objects));
                }
                let faults = objects.unreadable.iter().map(ToString::to_string);
                (faults.collect::<Vec<_>>().join("; "), Ok(Some(objects)))
            }
            Err(error) => (with_causes(&error), Err(error)),
        };
        if told.as_ref() != Some(&fault) {
            tracing::error!(path = %path.display(), %fault, kept = good.is_some(), "the manifests cannot be read to their end");
            *told = Some(fault);
        }
        good.clone().map_or(usable, |objects| Ok(Some(objects)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_edit_of_the_operator_file_keeps_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let mut file = OperatorFile::new(path.clone());
        assert!(file.current().is_err());
        let vnis = |file: &mut OperatorFile| {
            file.current().unwrap().vrfs.values().map(|vrf| vrf.vni.get()).collect::<Vec<_>>()
        };
        std::fs::write(&path, "vnimap: {a: 1, b: 0}\n").unwrap();
        assert_eq!(vnis(&mut file), [1], "the good part, where nothing better is known");
        std::fs::write(&path, "vnimap: {a: 1, b: 2}\n").unwrap();
        assert_eq!(vnis(&mut file), [1, 2]);
        for broken in ["vnimap: {a: 1", "", "vnimap: {a: 1, b: 1}\n", "vnimapp: {}\n"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(vnis(&mut file), [1, 2], "{broken:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(vnis(&mut file), [1, 2]);
        std::fs::write(&path, "vnimap: {}\n").unwrap();
        assert!(vnis(&mut file).is_empty());
    }

    #[test]
    fn manifests_that_break_off_or_vanish_keep_what_was_read_and_an_emptied_folder_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifests");
        let mut source = ObjectSource::manifests(path.clone());
        assert!(source.current().is_err());
        std::fs::create_dir(&path).unwrap();
        let object = "apiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {name: x}\nspec: {vrf: a, seq: 1, import: [], export: []}\n";
        std::fs::write(path.join("a.yaml"), object).unwrap();
        let count = |source: &mut ObjectSource| source.current().unwrap().unwrap().objects.len();
        assert_eq!(count(&mut source), 1);
        std::fs::write(path.join("a.yaml"), "spec: [").unwrap();
        assert_eq!(count(&mut source), 1, "broken off");
        std::fs::remove_file(path.join("a.yaml")).unwrap();
        assert_eq!(count(&mut source), 0, "emptied");
        std::fs::write(path.join("a.yaml"), object).unwrap();
        assert_eq!(count(&mut source), 1);
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(count(&mut source), 1, "vanished");
    }
}
