//! Where objects come from, and what stands while nobody tells which there are.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::state::Accepted;
use crate::trigger::known::KubeObjects;
use crate::trigger::manifests::{ManifestError, Texts};
use crate::trigger::{Objects, Once, with_causes};

/// Objects to go by.
#[derive(Debug, Clone)]
pub struct Given {
    /// The objects.
    pub objects: Objects,
    /// How they were come by.
    pub origin: Origin,
}

/// How objects were come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// They were told, all of them.
    Answered,
    /// They were told before. Whoever tells of objects tells of the next change, too.
    Kept,
    /// They were told before, and nobody will tell when that changes: a mount over a folder is no event.
    KeptUnwatched,
    /// Some of them: more may stand behind a fault, and nothing better was ever known.
    Part,
}

#[derive(Debug)]
enum Source {
    Kube(KubeObjects),
    Manifests(PathBuf),
}

/// Where objects come from, and the last that were told.
#[derive(Debug)]
pub struct ObjectSource {
    source: Source,
    /// Those of this agent.
    good: Option<Good>,
    /// Those of an agent before, until there is an answer.
    accepted: Option<Accepted>,
    limit: Limit,
    answered: CancellationToken,
    told: Once,
    /// Whether it was told that there is no answer.
    silence_told: bool,
}

/// Whether an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Open,
    Ended,
}

/// Objects that were told, all of them.
#[derive(Debug, Clone)]
struct Good {
    objects: Objects,
    /// Hash of the files that they are of.
    files: Option<u64>,
}

/// What a look at the source gives.
enum Seen {
    All(Good),
    Part {
        objects: Objects,
        fault: String,
    },
    /// No answer; the API server's error has been told by its watch.
    Nothing(Option<ManifestError>),
}

impl ObjectSource {
    /// Objects of the API server.
    pub fn kube(objects: KubeObjects) -> Self {
        Self::new(Source::Kube(objects))
    }

    /// Objects of a folder or a file.
    pub fn manifests(path: PathBuf) -> Self {
        Self::new(Source::Manifests(path))
    }

    fn new(source: Source) -> Self {
        let answered = CancellationToken::new();
        Self {
            source,
            good: None,
            accepted: None,
            limit: Limit::Open,
            answered,
            told: Once::default(),
            silence_told: false,
        }
    }

    /// With the inputs of the last verified run, also of an agent before.
    #[must_use]
    pub fn remembering(self, accepted: Option<Accepted>) -> Self {
        if let Source::Kube(objects) = &self.source {
            objects.remember(accepted.as_ref().map_or(&[], |accepted| &accepted.objects));
        }
        Self { accepted, ..self }
    }

    /// Ends with the first whole answer.
    pub fn answered(&self) -> CancellationToken {
        self.answered.clone()
    }

    /// From now on what was accepted last stands in for an answer.
    pub fn limit_ended(&mut self) {
        self.limit = Limit::Ended;
    }

    /// The objects; `None` while nobody has told which there are.
    ///
    /// A file that breaks off may hold objects behind the break: then what was last read whole stands. Where nothing
    /// was, the objects that can be read are used.
    ///
    /// # Errors
    /// The files cannot be read, never could, and are waited for no longer.
    pub fn current(&mut self) -> Result<Option<Given>, ManifestError> {
        match self.look() {
            Seen::All(good) => {
                self.answered.cancel();
                if self.told.is_over() {
                    tracing::info!("the manifests are good again");
                }
                self.accepted = None;
                let objects = self.good.insert(good).objects.clone();
                Ok(Some(Given { objects, origin: Origin::Answered }))
            }
            Seen::Part { objects, fault } => {
                let good = self.good.as_ref().map(|good| good.objects.clone());
                let kept = good.or_else(|| self.accepted.as_ref().map(objects_of));
                self.tell(fault, kept.is_some());
                Ok(Some(match kept {
                    Some(objects) => Given { objects, origin: Origin::Kept },
                    None => Given { objects, origin: Origin::Part },
                }))
            }
            Seen::Nothing(error) => self.without_answer(error),
        }
    }

    fn look(&self) -> Seen {
        let all = |objects, files| Seen::All(Good { objects, files });
        let path = match &self.source {
            Source::Kube(objects) => {
                return objects.snapshot().map_or(Seen::Nothing(None), |objects| all(objects, None));
            }
            Source::Manifests(path) => path,
        };
        let texts = match Texts::answer(path) {
            Ok(texts) => texts,
            Err(error) => return Seen::Nothing(Some(error)),
        };
        let files = Some(BuildHasherDefault::<DefaultHasher>::default().hash_one(&texts));
        if let Some(good) = self.good.as_ref().filter(|good| good.files == files) {
            return Seen::All(good.clone());
        }
        let manifests = texts.parse();
        let incomplete = manifests.incomplete;
        let objects = Objects::from(manifests);
        if !incomplete {
            return all(objects, files);
        }
        let faults = objects.unreadable.iter().map(|unreadable| unreadable.rejection.to_string()).collect::<Vec<_>>();
        Seen::Part { objects, fault: faults.join("; ") }
    }

    fn without_answer(&mut self, error: Option<ManifestError>) -> Result<Option<Given>, ManifestError> {
        if let Some(error) = &error {
            self.tell(with_causes(error), self.good.is_some() || self.accepted.is_some());
        }
        let origin = if error.is_some() { Origin::KeptUnwatched } else { Origin::Kept };
        if let Some(good) = &self.good {
            return Ok(Some(Given { objects: good.objects.clone(), origin }));
        }
        if self.limit == Limit::Open {
            return Ok(None);
        }
        let told = std::mem::replace(&mut self.silence_told, true);
        let why =
            error.as_ref().map_or_else(|| "the API server has not answered".to_owned(), |error| with_causes(error));
        match (&self.accepted, error) {
            (Some(accepted), _) => {
                if !told {
                    tell_of(accepted, &why);
                }
                Ok(Some(Given { objects: objects_of(accepted), origin }))
            }
            (None, Some(error)) => Err(error),
            (None, None) => {
                if !told {
                    tracing::warn!(%why, "no objects yet, and none were accepted before: the node keeps what it has");
                }
                Ok(None)
            }
        }
    }

    /// Each fault once.
    fn tell(&mut self, fault: String, kept: bool) {
        if self.told.is_news(&fault) {
            let path = match &self.source {
                Source::Manifests(path) => path,
                Source::Kube(_) => Path::new(""),
            };
            tracing::error!(path = %path.display(), %fault, kept, "the manifests cannot be used as they are");
        }
    }
}

fn objects_of(accepted: &Accepted) -> Objects {
    Objects { objects: accepted.objects.clone(), unreadable: Vec::new() }
}

fn tell_of(accepted: &Accepted, why: &str) {
    let Accepted { since, objects, operator_file: _, template: _ } = accepted;
    let age = jiff::Timestamp::now().duration_since(*since).as_secs();
    let age = format!("{:#}", jiff::SignedDuration::from_secs(age));
    tracing::warn!(objects = objects.len(), %since, %age, %why, "no objects yet: those that were accepted last are applied");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Arc;

    const OBJECT: &str = "apiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {name: x}\nspec: {vrf: a, seq: 1, import: [], export: []}\n";
    const NONE: &str = "kind: List\napiVersion: v1\nitems: []\n";

    struct Rig {
        _root: tempfile::TempDir,
        folder: PathBuf,
        source: ObjectSource,
    }

    impl Rig {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("manifests");
            let source = ObjectSource::manifests(folder.clone());
            Self { _root: root, folder, source }
        }

        fn remembering(self) -> Self {
            let source = self.source.remembering(Some(accepted()));
            Self { source, ..self }
        }

        fn write(&self, text: &str) {
            fs::create_dir_all(&self.folder).unwrap();
            fs::write(self.folder.join("a.yaml"), text).unwrap();
        }

        /// How many objects, and how they were come by.
        fn current(&mut self) -> Option<(usize, Origin)> {
            self.source.current().unwrap().map(|given| (given.objects.objects.len(), given.origin))
        }
    }

    /// Two objects.
    fn accepted() -> Accepted {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), format!("{OBJECT}---\n{}", OBJECT.replace("name: x", "name: z")))
            .unwrap();
        let objects = Texts::answer(folder.path()).unwrap().parse().objects;
        Accepted { since: jiff::Timestamp::UNIX_EPOCH, objects, operator_file: String::new(), template: String::new() }
    }

    #[test]
    fn manifests_that_break_off_vanish_or_are_emptied_keep_what_was_read_and_a_list_without_items_does_not() {
        let mut rig = Rig::new();
        rig.write(OBJECT);
        assert_eq!(rig.current(), Some((1, Origin::Answered)));
        assert!(rig.source.answered().is_cancelled());
        rig.write("spec: [");
        assert_eq!(rig.current(), Some((1, Origin::Kept)), "broken off");
        fs::remove_file(rig.folder.join("a.yaml")).unwrap();
        assert_eq!(rig.current(), Some((1, Origin::KeptUnwatched)), "emptied");
        fs::remove_dir_all(&rig.folder).unwrap();
        assert_eq!(rig.current(), Some((1, Origin::KeptUnwatched)), "vanished");
        rig.write(OBJECT);
        assert_eq!(rig.current(), Some((1, Origin::Answered)), "as it was");
        rig.write(NONE);
        assert_eq!(rig.current(), Some((0, Origin::Answered)), "removed on purpose");
        rig.write(OBJECT);
        assert_eq!(rig.current(), Some((1, Origin::Answered)));
    }

    #[test]
    fn without_an_answer_the_accepted_objects_stand_in_once_the_limit_has_ended() {
        let mut rig = Rig::new().remembering();
        assert_eq!(rig.current(), None, "not there, and waited for");
        fs::create_dir(&rig.folder).unwrap();
        assert_eq!(rig.current(), None, "empty, and waited for");
        rig.source.limit_ended();
        assert_eq!(rig.current(), Some((2, Origin::KeptUnwatched)));
        assert!(!rig.source.answered().is_cancelled());
        rig.write(OBJECT);
        assert_eq!(rig.current(), Some((1, Origin::Answered)), "an answer counts");
        fs::remove_dir_all(&rig.folder).unwrap();
        assert_eq!(rig.current(), Some((1, Origin::KeptUnwatched)), "and stays");
    }

    #[test]
    fn what_is_refused_of_files_is_told_as_long_as_they_stay_as_they_are_also_after_a_break() {
        let mut rig = Rig::new();
        let whole = format!("{OBJECT}---\n{}", OBJECT.replace("name: x", "name: z").replace("seq: 1", "seq: []"));
        for (text, origin) in
            [(&whole, Origin::Answered), (&"spec: [".to_owned(), Origin::Kept), (&whole, Origin::Answered)]
        {
            rig.write(text);
            for _ in 0..2 {
                let given = rig.source.current().unwrap().unwrap();
                assert_eq!((given.objects.objects.len(), given.objects.unreadable.len(), given.origin), (1, 1, origin));
            }
        }
    }

    #[test]
    fn files_that_stay_as_they_are_are_not_parsed_again() {
        let mut rig = Rig::new();
        let mut objects = |text: &str, name: &str| {
            rig.write("");
            fs::remove_file(rig.folder.join("a.yaml")).unwrap();
            fs::write(rig.folder.join(name), text).unwrap();
            let objects = rig.source.current().unwrap().unwrap().objects.objects;
            fs::remove_file(rig.folder.join(name)).unwrap();
            objects
        };
        let one = objects(OBJECT, "a.yaml");
        assert!(Arc::ptr_eq(&one[0], &objects(OBJECT, "a.yaml")[0]));
        // Rejections name the file.
        assert!(!Arc::ptr_eq(&one[0], &objects(OBJECT, "b.yaml")[0]));
        assert_eq!(objects(&OBJECT.replace("seq: 1", "seq: 2"), "a.yaml")[0].spec.seq, 2);
        assert_eq!(objects(OBJECT, "a.yaml")[0].spec.seq, 1);
    }

    #[test]
    fn an_answer_before_the_limit_counts_at_once() {
        let mut rig = Rig::new().remembering();
        rig.write(NONE);
        assert_eq!(rig.current(), Some((0, Origin::Answered)));
    }

    #[test]
    fn a_file_that_breaks_off_at_a_start_gives_way_to_the_accepted_objects() {
        let broken = format!("{OBJECT}---\nspec: [");
        let mut rig = Rig::new();
        rig.write(&broken);
        assert_eq!(rig.current(), Some((1, Origin::Part)), "where nothing better is known");
        let mut rig = Rig::new().remembering();
        rig.write(&broken);
        assert_eq!(rig.current(), Some((2, Origin::Kept)));
    }

    #[test]
    fn where_nothing_was_ever_accepted_the_limit_ends_in_the_fault() {
        let mut rig = Rig::new();
        assert_eq!(rig.current(), None);
        rig.source.limit_ended();
        assert!(matches!(rig.source.current(), Err(ManifestError::Read { .. })));
        fs::create_dir(&rig.folder).unwrap();
        assert!(matches!(rig.source.current(), Err(ManifestError::Empty { .. })));
    }

    #[test]
    fn an_api_server_that_is_silent_gives_way_to_the_accepted_objects() {
        for (accepted, objects) in [(None, None), (Some(accepted()), Some((2, Origin::Kept)))] {
            let mut source = ObjectSource::kube(KubeObjects::of_a_node()).remembering(accepted);
            assert!(source.current().unwrap().is_none());
            source.limit_ended();
            let given = source.current().unwrap();
            assert_eq!(given.map(|given| (given.objects.objects.len(), given.origin)), objects);
        }
    }
}
