//! Where changes come from: objects of the API server or of files, the files of the node, and whatever may have moved it
//! from where it was brought.

pub mod clock;
mod crd;
pub mod debounce;
pub mod drift;
pub mod files;
pub mod known;
pub mod kube;
pub mod links;
pub mod manifests;
pub mod nftables;
pub mod object;
pub mod service;
mod source;
pub mod timing;
pub mod vtysh;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::VrfRouteConfiguration;
use crate::desired::Rejection;

/// Something that a run depends on may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// Objects, wherever they come from.
    Objects,
    /// The operator file.
    OperatorFile,
    /// The template of frr.conf.
    Template,
    /// The wait for a first answer on the objects is over.
    InputLimit,
    /// A link of ours, the underlay, or a VXLAN that went.
    Links,
    /// A filter or qdisc of a link of ours, or of one that the operator file has the eBPF router attached to.
    Filters,
    /// Our nftables table.
    Notrack,
    /// frr.service begins to start, stop or reload: until it has, FRR's configuration is neither the old nor the new one.
    ServiceMoves,
    /// frr.service has settled, started or stopped or reloaded.
    Service,
    /// frr.service runs anew. That is never our doing.
    ServiceStarted,
    /// A daemon of FRR, other than watchfrr, came or went.
    Daemons,
    /// frr.conf.
    FrrConf,
    /// A vtysh has ended: who knows what it did.
    Vtysh,
    /// It is time to look for what no event tells.
    Clock,
}

impl Trigger {
    /// Whether it changes what is wanted; all others only what is.
    pub fn is_change(self) -> bool {
        matches!(self, Self::Objects | Self::OperatorFile | Self::Template | Self::InputLimit)
    }
}

/// The objects as they stand.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Those that can be read.
    pub objects: Vec<Arc<VrfRouteConfiguration>>,
    /// The others.
    pub unreadable: Vec<Arc<Unreadable>>,
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Why.
    pub rejection: Rejection,
    /// Which one the API server has.
    pub identity: Option<Identity>,
}

/// Which object the API server has, and as of which change of its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Another object may have the same name later.
    pub uid: String,
    /// Counts changes of the spec.
    pub generation: i64,
}

impl Identity {
    fn of(metadata: &ObjectMeta) -> Option<Self> {
        Some(Self { uid: metadata.uid.clone()?, generation: metadata.generation? })
    }
}

impl Objects {
    /// Whether these say the same, each in its place.
    pub fn say_the_same(&self, others: &Self) -> bool {
        VrfRouteConfiguration::all_say_the_same(self.objects.iter(), others.objects.iter())
            && self.unreadable == others.unreadable
    }

    /// Name, identity and VRF of those that the API server has.
    pub fn identities(&self) -> impl Iterator<Item = (&str, Identity, Option<&str>)> {
        let readable = self.objects.iter().filter_map(|object| {
            let name = object.metadata.name.as_deref()?;
            Some((name, Identity::of(&object.metadata)?, Some(object.spec.vrf.as_str())))
        });
        let unreadable = self.unreadable.iter().filter_map(|unreadable| {
            let Unreadable { rejection, identity } = &**unreadable;
            Some((rejection.object.as_str(), identity.clone()?, None))
        });
        readable.chain(unreadable)
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Objects => "objects",
            Self::OperatorFile => "operator file",
            Self::Template => "template",
            Self::InputLimit => "input limit",
            Self::Links => "links",
            Self::Filters => "tc filters",
            Self::Notrack => "nftables",
            Self::ServiceMoves => "frr.service on the move",
            Self::Service => "frr.service",
            Self::ServiceStarted => "start of frr.service",
            Self::Daemons => "FRR daemons",
            Self::FrrConf => "frr.conf",
            Self::Vtysh => "vtysh",
            Self::Clock => "clock",
        })
    }
}

/// How long to wait before a lost source is sought again: a second, doubled each time up to a minute.
pub fn patience(failures: u32) -> Duration {
    doubled(Duration::from_secs(1), failures, Duration::from_secs(60))
}

/// The first wait, doubled with each failure before the last one, up to the longest.
pub fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures)).min(longest)
}

/// What is wrong, so that each fault is told once, and its end.
#[derive(Debug, Default)]
pub struct Once(Option<String>);

impl Once {
    /// Whether it is another fault than the one before.
    pub fn is_news(&mut self, fault: &str) -> bool {
        let news = self.0.as_deref() != Some(fault);
        if news {
            self.0 = Some(fault.to_owned());
        }
        news
    }

    /// Whether something is wrong.
    pub fn stands(&self) -> bool {
        self.0.is_some()
    }

    /// All is well: whether something was wrong before.
    pub fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// The first of some words, and how many more there are.
pub fn first_of(words: &[String], most: usize) -> String {
    let mut named = words.iter().take(most).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = words.len().saturating_sub(most);
    if more > 0 {
        named.push_str(&format!("; and {more} more"));
    }
    named
}

/// An error with those of its causes that it does not name itself.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objects(metadata: &[serde_json::Value], seq: u32) -> Objects {
        let spec = json!({"vrf": "blue", "seq": seq, "import": [], "export": []});
        let object = |metadata| json!({"apiVersion": "network.schiff.telekom.de/v1alpha1", "kind": "VRFRouteConfiguration", "metadata": metadata, "spec": spec});
        let objects = metadata.iter().map(|metadata| Arc::new(serde_json::from_value(object(metadata)).unwrap()));
        Objects { objects: objects.collect(), unreadable: Vec::new() }
    }

    #[test]
    fn objects_say_the_same_whatever_else_changes_of_them() {
        let one = json!({"name": "a", "uid": "1", "generation": 1, "resourceVersion": "7"});
        let before = objects(std::slice::from_ref(&one), 10);
        assert!(before.say_the_same(&before.clone()));
        let touched = json!({"name": "a", "uid": "1", "generation": 1, "resourceVersion": "8", "labels": {"l": "1"}});
        assert!(before.say_the_same(&objects(&[touched], 10)));
        let others = [
            objects(std::slice::from_ref(&one), 20),
            objects(&[], 10),
            objects(&[one.clone(), one], 10),
            objects(&[json!({"name": "b", "uid": "1", "generation": 1})], 10),
            objects(&[json!({"name": "a", "uid": "2", "generation": 1})], 10),
            objects(&[json!({"name": "a", "uid": "1", "generation": 2})], 10),
            objects(
                &[json!({"name": "a", "uid": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"})],
                10,
            ),
        ];
        for other in others {
            assert!(!before.say_the_same(&other) && !other.say_the_same(&before), "{other:?}");
        }
    }
}
