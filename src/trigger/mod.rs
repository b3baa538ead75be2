//! Where changes come from: objects of the API server or of files, and the files of the node.

pub mod debounce;
pub mod files;
pub mod kube;
pub mod manifests;
mod object;

use std::fmt;
use std::sync::Arc;

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
}

/// The objects as they stand.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Those that can be read.
    pub objects: Vec<Arc<VrfRouteConfiguration>>,
    /// The others.
    pub unreadable: Vec<Rejection>,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Objects => "objects",
            Self::OperatorFile => "operator file",
            Self::Template => "template",
            Self::InputLimit => "input limit",
        })
    }
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
