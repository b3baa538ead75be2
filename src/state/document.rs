//! What is remembered, and its form on the disk. Pure: time is an argument.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::api::{VrfRouteConfiguration, VrfRouteConfigurationSpec};

/// The form that is written; a newer one is not read.
const VERSION: u64 = 1;

/// All that is remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The inputs of the last verified run; `None` before the first.
    pub accepted: Option<Accepted>,
    /// What the pipeline has to know of earlier runs.
    pub facts: Facts,
}

/// Inputs that FRR was seen to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// Since when they have been what the node goes by.
    pub since: Timestamp,
    /// The objects that could be read, by name, with name, UID, generation, creation time and spec only.
    pub objects: Vec<Arc<VrfRouteConfiguration>>,
    /// Text of the operator file.
    pub operator_file: String,
    /// Text of the template.
    pub template: String,
}

/// What the pipeline has to know of earlier runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Lines of frr.conf that FRR's running configuration need not show.
    pub tolerated: BTreeSet<String>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u64,
    #[serde(default)]
    accepted: Option<StoredInputs>,
    #[serde(default)]
    facts: Facts,
}

#[derive(Serialize, Deserialize)]
struct StoredInputs {
    since: Time,
    objects: Vec<StoredObject>,
    operator_file: String,
    template: String,
}

/// An object, without what changes all the time and says nothing to this node.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredObject {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creation_timestamp: Option<Time>,
    /// With the generation: which object this is, so that it can be told of by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    spec: VrfRouteConfigurationSpec,
}

/// What may stand in a file of any version.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// Why a text is no state.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error(transparent)]
    Broken(#[from] serde_json::Error),
    #[error("a newer network-operator wrote it (version {found}; this one knows {VERSION})")]
    Newer { found: u64 },
}

impl State {
    /// FRR runs what these inputs ask for; gives whether they are others than before. The same ones again change nothing.
    pub fn accept(
        &mut self,
        objects: &[Arc<VrfRouteConfiguration>],
        operator_file: &str,
        template: &str,
        now: Timestamp,
    ) -> bool {
        let mut objects: Vec<_> = objects.iter().collect();
        objects.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let news = self.accepted.as_ref().is_none_or(|old| {
            (old.operator_file.as_str(), old.template.as_str()) != (operator_file, template)
                || !VrfRouteConfiguration::all_say_the_same(old.objects.iter(), objects.iter().copied())
        });
        if news {
            let since = Timestamp::from_second(now.as_second()).unwrap_or(now);
            let objects = objects.into_iter().map(|object| Arc::new(essence(object))).collect();
            let (operator_file, template) = (operator_file.to_owned(), template.to_owned());
            self.accepted = Some(Accepted { since, objects, operator_file, template });
        }
        news
    }

    /// The text of the file.
    pub(super) fn encode(&self) -> Result<String, serde_json::Error> {
        let Self { accepted, facts } = self;
        let accepted = accepted.as_ref().map(|accepted| {
            let Accepted { since, objects, operator_file, template } = accepted;
            let objects = objects.iter().map(|object| StoredObject {
                name: object.metadata.name.clone().unwrap_or_default(),
                creation_timestamp: object.metadata.creation_timestamp.clone(),
                uid: object.metadata.uid.clone(),
                generation: object.metadata.generation,
                spec: object.spec.clone(),
            });
            StoredInputs {
                since: Time(*since),
                objects: objects.collect(),
                operator_file: operator_file.clone(),
                template: template.clone(),
            }
        });
        let document = Document { version: VERSION, accepted, facts: facts.clone() };
        Ok(serde_json::to_string(&document)? + "\n")
    }

    /// What a text says.
    pub(super) fn decode(text: &str) -> Result<Self, DocumentError> {
        // The version first: nobody knows what else a newer file looks like.
        let Versioned { version } = serde_json::from_str(text)?;
        if version > VERSION {
            return Err(DocumentError::Newer { found: version });
        }
        let Document { version: _, accepted, facts } = serde_json::from_str(text)?;
        let accepted = accepted.map(|stored| {
            let StoredInputs { since, objects, operator_file, template } = stored;
            let objects =
                objects.into_iter().map(|StoredObject { name, creation_timestamp, uid, generation, spec }| {
                    let name = Some(name);
                    let metadata = ObjectMeta { name, creation_timestamp, uid, generation, ..ObjectMeta::default() };
                    Arc::new(VrfRouteConfiguration { metadata, spec, status: None })
                });
            Accepted { since: since.0, objects: objects.collect(), operator_file, template }
        });
        Ok(Self { accepted, facts })
    }
}

/// What [`VrfRouteConfiguration::says_the_same`] goes by.
fn essence(full: &VrfRouteConfiguration) -> VrfRouteConfiguration {
    let ObjectMeta { name, creation_timestamp, uid, generation, .. } = full.metadata.clone();
    let metadata = ObjectMeta { name, creation_timestamp, uid, generation, ..ObjectMeta::default() };
    VrfRouteConfiguration { metadata, spec: full.spec.clone(), status: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn full(name: &str, label: &str) -> Arc<VrfRouteConfiguration> {
        let value = json!({
            "apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration",
            "metadata": {"name": name, "labels": {"l": label}, "resourceVersion": label,
                "creationTimestamp": "2025-02-03T04:05:06Z", "uid": "u", "generation": 3},
            "spec": {"vrf": "a", "seq": 1, "import": [{"cidr": "10.0.0.0/8", "le": 24, "action": "permit"}], "export": [],
                "aggregate": ["10.0.0.0/8"], "community": "1:1"},
            "status": {},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_with_all_that_judging_an_object_needs() {
        let mut state = State::default();
        state.accept(&[full("b", "1"), full("a", "1")], "vnimap: {}\n", "tpl\n", at(7));
        state.facts.tolerated.insert("line".to_owned());
        let text = state.encode().unwrap();
        let read = State::decode(&text).unwrap();
        assert_eq!(read, state);
        let objects = read.accepted.unwrap().objects;
        assert_eq!(objects[0].metadata.name.as_deref(), Some("a"));
        assert_eq!((objects[0].metadata.uid.as_deref(), objects[0].metadata.generation), (Some("u"), Some(3)));
        assert_eq!(objects[0].spec, full("a", "1").spec);
        assert_eq!(objects[0].metadata.creation_timestamp, full("a", "1").metadata.creation_timestamp);
        assert!(text.starts_with("{\"version\":1,") && !text.contains("labels"), "{text}");
    }

    #[test]
    fn inputs_that_say_the_same_change_nothing_and_others_begin_anew() {
        let mut state = State::default();
        assert!(state.accept(&[full("a", "1"), full("b", "1")], "o", "t", at(7)));
        let before = state.encode().unwrap();
        assert!(!state.accept(&[full("b", "2"), full("a", "2")], "o", "t", at(8)));
        assert_eq!(state.encode().unwrap(), before, "labels, versions and order say nothing");
        assert!(state.accept(&[full("b", "2")], "o", "t", at(9)));
        assert_eq!(state.accepted.unwrap().since, at(9));
    }

    #[test]
    fn a_newer_version_and_a_broken_text_are_told_apart() {
        assert!(matches!(State::decode("{\"version\": 2, \"objects\": 5}"), Err(DocumentError::Newer { found: 2 })));
        for broken in ["", "{", "[]", "{\"version\": -1}", "{\"version\": 1, \"accepted\": {}}"] {
            assert!(matches!(State::decode(broken), Err(DocumentError::Broken(_))), "{broken:?}");
        }
        assert_eq!(State::decode("{\"version\": 1}").unwrap(), State::default());
    }
}
