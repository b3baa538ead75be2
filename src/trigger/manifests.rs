//! Objects from files: multi-document YAML (or JSON) of one or more files and folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::{Objects, Unreadable, object};
use crate::api::VrfRouteConfiguration;
use crate::desired::{Rejection, RejectionReason};

/// What the files hold.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// The objects, in the order of files and documents.
    pub objects: Vec<Arc<VrfRouteConfiguration>>,
    /// Documents that are no object.
    pub unreadable: Vec<Rejection>,
    /// How many files were read.
    pub files: usize,
    /// Whether a file could not be read to its end, so that objects may be missing here that stand in it.
    pub incomplete: bool,
}

impl From<Manifests> for Objects {
    fn from(manifests: Manifests) -> Self {
        let Manifests { objects, unreadable, files: _, incomplete: _ } = manifests;
        let unnumbered = |rejection| Arc::new(Unreadable { rejection, identity: None });
        Self { objects, unreadable: unreadable.into_iter().map(unnumbered).collect() }
    }
}

/// Why nothing can be said about the objects.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file or folder that was named cannot be read.
    #[error("read manifests from {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A folder without a file of ours is what a mount looks like that is not there yet.
    #[error(
        "no file of {path} is named *.yaml, *.yml or *.json, as where a mount is missing: mount it; to remove all objects, leave a file with `{{kind: List, apiVersion: v1, items: []}}` there"
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// Reads all objects of files and folders (`*.yaml`, `*.yml`, `*.json`, not below other folders).
///
/// Documents of other kinds are left out; a document that cannot be read is a rejection, and the others stand.
///
/// # Errors
/// A file or folder that cannot be read: that is not the same as no objects.
pub fn read_manifests(paths: &[PathBuf]) -> Result<Manifests, ManifestError> {
    let texts = paths.iter().map(|path| Texts::read(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(Manifests::of(texts.into_iter().flat_map(|texts| texts.0)))
}

/// What stands in the files of a folder, or in one file.
#[derive(Debug, Hash)]
pub struct Texts(Vec<(PathBuf, String)>);

impl Texts {
    fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = |file: PathBuf| match std::fs::read_to_string(&file) {
            Ok(text) => Ok((file, text)),
            Err(source) => Err(ManifestError::Read { path: file, source }),
        };
        Ok(Self(files(path)?.into_iter().map(text).collect::<Result<_, _>>()?))
    }

    /// Of a folder or file that somebody keeps for the agent.
    ///
    /// # Errors
    /// As [`read_manifests`], and a folder without such a file: nobody has answered.
    pub fn answer(path: &Path) -> Result<Self, ManifestError> {
        let texts = Self::read(path)?;
        if texts.0.is_empty() {
            return Err(ManifestError::Empty { path: path.to_owned() });
        }
        Ok(texts)
    }

    /// All objects of them, as [`read_manifests`] reads them.
    pub fn parse(self) -> Manifests {
        Manifests::of(self.0)
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let read = |source| ManifestError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        // A mounted ConfigMap keeps its real files in hidden folders and links to them.
        let hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let known = file.extension().is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|known| ext == *known));
        if hidden || !known {
            continue;
        }
        match std::fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() => files.push(file),
            Ok(_) => {}
            // A file that was deleted meanwhile is gone; a link that leads nowhere is a file that cannot be read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !file.is_symlink() => {}
            Err(source) => return Err(ManifestError::Read { path: file, source }),
        }
    }
    files.sort();
    Ok(files)
}

impl Manifests {
    fn of(texts: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let mut manifests = Self::default();
        for (file, text) in texts {
            manifests.files += 1;
            manifests.read(&file, &text);
        }
        manifests.refuse_repeated_names();
        manifests
    }

    fn read(&mut self, file: &Path, text: &str) {
        let (mut reader, options) = (text.as_bytes(), serde_saphyr::options! { with_snippet: false });
        for (index, document) in serde_saphyr::read_with_options::<_, Value>(&mut reader, options).enumerate() {
            let place = format!("{}#{}", file.display(), index + 1);
            match document {
                Ok(value) => self.add(&place, value),
                Err(error) => {
                    self.incomplete = true;
                    let cure = "correct the YAML; what this file holds behind that place was not read";
                    self.unreadable.push(unreadable(place, String::new(), error.to_string(), cure));
                }
            }
        }
    }

    fn add(&mut self, place: &str, value: Value) {
        if value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) {
            if let Value::Object(mut list) = value
                && let Some(Value::Array(items)) = list.remove("items")
            {
                items.into_iter().for_each(|item| self.add(place, item));
            }
            return;
        }
        if !object::is_ours(&value) {
            tracing::debug!(document = place, "not a VRFRouteConfiguration");
            return;
        }
        match object::parse(place, value) {
            Ok(object) => self.objects.push(Arc::new(object)),
            Err(rejection) => self.unreadable.push(rejection),
        }
    }

    /// A cluster has one object of a name; of two documents with one name the first stands.
    fn refuse_repeated_names(&mut self) {
        let mut seen: BTreeMap<String, ()> = BTreeMap::new();
        let unreadable = &mut self.unreadable;
        self.objects.retain(|object| {
            let name = object.metadata.name.clone().unwrap_or_default();
            let first = seen.insert(name.clone(), ()).is_none();
            if !first {
                unreadable.push(Rejection {
                    object: name,
                    field: "metadata.name".to_owned(),
                    reason: RejectionReason::DuplicateName,
                    message: "another document has this name".to_owned(),
                    cure: "give each object its own name".to_owned(),
                });
            }
            first
        });
    }
}

fn unreadable(object: String, field: String, message: String, cure: &str) -> Rejection {
    Rejection { object, field, reason: RejectionReason::Unreadable, message, cure: cure.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> String {
        format!(
            "apiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: {name}}}\nspec: {{vrf: a, seq: 1, import: [], export: []}}\n"
        )
    }

    fn read(files: &[(&str, &str)]) -> Manifests {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        read_manifests(&[folder.path().to_owned()]).unwrap()
    }

    fn names(manifests: &Manifests) -> Vec<&str> {
        manifests.objects.iter().map(|object| object.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn documents_lists_and_other_kinds_are_told_apart() {
        let list = "{\"kind\": \"List\", \"items\": [{\"apiVersion\": \"network.schiff.telekom.de/v1alpha1\", \"kind\": \"VRFRouteConfiguration\", \"metadata\": {\"name\": \"z\"}, \"spec\": {\"vrf\": \"a\", \"seq\": 2, \"import\": [], \"export\": []}}]}";
        let two = format!("{}---\n---\nkind: ConfigMap\napiVersion: v1\n---\n{}", object("b"), object("a"));
        let manifests = read(&[("one.yaml", &two), ("two.json", list), ("note.txt", "no"), (".hidden.yaml", "{")]);
        assert_eq!(names(&manifests), ["b", "a", "z"]);
        assert_eq!(manifests.objects[0].spec.mtu, 9000);
        assert!(manifests.unreadable.is_empty() && !manifests.incomplete);
    }

    #[test]
    fn a_bad_document_is_rejected_by_name_and_field_and_the_others_stand() {
        let bad = object("bad").replace("seq: 1", "seq: {}");
        let manifests = read(&[("a.yaml", &format!("{bad}---\n{}", object("good")))]);
        assert_eq!(names(&manifests), ["good"]);
        let rejection = &manifests.unreadable[0];
        assert_eq!((rejection.object.as_str(), rejection.field.as_str()), ("bad", "spec.seq"));
        assert!(!manifests.incomplete);
    }

    #[test]
    fn a_file_that_breaks_off_says_so_and_leaves_the_others() {
        let manifests = read(&[("a.yaml", "kind: [\n"), ("b.yaml", &object("good"))]);
        assert_eq!(names(&manifests), ["good"]);
        assert!(manifests.incomplete && manifests.unreadable[0].object.ends_with("a.yaml#1"));
    }

    #[test]
    fn of_two_documents_with_one_name_the_first_stands() {
        let manifests = read(&[("a.yaml", &object("x")), ("b.yaml", &object("x"))]);
        assert_eq!(names(&manifests), ["x"]);
        assert_eq!(manifests.unreadable[0].reason, RejectionReason::DuplicateName);
    }

    #[test]
    fn a_folder_without_a_file_of_ours_is_no_answer_and_a_list_without_items_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let answer = || Ok(Texts::answer(folder.path())?.parse());
        for name in ["note.txt", ".hidden.yaml"] {
            std::fs::write(folder.path().join(name), object("x")).unwrap();
        }
        std::fs::create_dir(folder.path().join("folder.yaml")).unwrap();
        assert!(matches!(answer(), Err(ManifestError::Empty { .. })));
        assert!(read_manifests(&[folder.path().to_owned()]).unwrap().objects.is_empty(), "who asks for it gets it");
        let file = folder.path().join("none.yaml");
        for none in ["kind: List\napiVersion: v1\nitems: []\n", "kind: ConfigMap\napiVersion: v1\n", ""] {
            std::fs::write(&file, none).unwrap();
            let manifests = answer().unwrap();
            assert!(
                manifests.objects.is_empty() && manifests.unreadable.is_empty() && !manifests.incomplete,
                "{none:?}"
            );
        }
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        assert!(matches!(answer(), Err(ManifestError::Read { .. })), "a link that leads nowhere");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_not_an_empty_set() {
        assert!(read_manifests(&["/nonexistent/manifests".into()]).is_err());
    }
}
