//! Judges changes by what is stored, and by the files of the nodes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::kube::api::ListParams;
use ::kube::{Api, Client};

use super::{Change, Opinion};
use crate::config::{ConfigError, OperatorConfig};
use crate::frr::template::Template;
use crate::input::{NamedTemplate, OperatorFile};
use crate::trigger::Objects;
use crate::trigger::known::{Guarded, KubeObjects, list};

/// How long a list may take; shorter than API servers wait for an answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Why an object is not judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum JudgeError {
    #[error("the API server has not told yet which objects there are")]
    NotYet,
    #[error("list the objects: no answer within {}s", LIMIT.as_secs())]
    Slow,
    #[error("list the objects")]
    List(#[source] Box<::kube::Error>),
    #[error(transparent)]
    OperatorFile(#[from] ConfigError),
}

/// What is known of the cluster and its nodes.
pub(super) struct Judge {
    known: KubeObjects,
    objects: Api<Guarded>,
    files: Mutex<NodeFiles>,
}

/// Files of the nodes.
struct NodeFiles {
    operator_file: OperatorFile,
    template: Option<NamedTemplate>,
}

impl NodeFiles {
    /// As they were when they were last good.
    fn current(&mut self) -> Result<(Arc<OperatorConfig>, Option<Arc<Template>>), ConfigError> {
        Ok((self.operator_file.current()?, self.template.as_mut().map(NamedTemplate::current)))
    }
}

impl Judge {
    pub(super) fn new(
        known: KubeObjects,
        client: Client,
        operator_file: OperatorFile,
        template: Option<NamedTemplate>,
    ) -> Self {
        Self { known, objects: Api::all(client), files: Mutex::new(NodeFiles { operator_file, template }) }
    }

    /// Whether it knows the objects.
    pub(super) fn is_ready(&self) -> bool {
        self.known.is_known()
    }

    /// # Errors
    /// The objects are not known, or the operator file cannot be used.
    pub(super) async fn opinion(&self, change: &Change) -> Result<Opinion, JudgeError> {
        let (config, template) = self.files.lock().unwrap_or_else(PoisonError::into_inner).current()?;
        let opinion = |stored: &Objects| change.opinion(stored, &config, template.as_deref());
        let first = opinion(&self.known.snapshot().ok_or(JudgeError::NotYet)?);
        // The watch may not have told yet that the other one is gone, or is another.
        match &first {
            Opinion::Denied(rejection) if rejection.reason.is_of_two() => Ok(opinion(&self.listed().await?)),
            _ => Ok(first),
        }
    }

    async fn listed(&self) -> Result<Objects, JudgeError> {
        let listed = tokio::time::timeout(LIMIT, self.objects.list(&ListParams::default())).await;
        let listed = listed.map_err(|_| JudgeError::Slow)?;
        Ok(list(listed.map_err(|error| JudgeError::List(error.into()))?.items))
    }
}
