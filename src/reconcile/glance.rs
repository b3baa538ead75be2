//! A look at the node that only asks whether it is as a whole look found it: that one judges, renders, parses and compares, this one
//! reads.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use tokio::time::Instant;

use super::pipeline::Pipeline;
use super::{ConfigPort, DaemonPort, LinkPort, PortError, ServicePort, VniState};
use crate::link::ObservedLinks;

/// So long after a whole look the next one is a whole one again, whatever the node shows: ten minutes, and somewhat less, since a clock's ticks
/// are that far apart from where a look begins.
const WHOLE: Duration = Duration::from_secs(590);

/// All that a whole look goes by beside the inputs, as the node shows it; texts as their hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    links: ObservedLinks,
    file: Option<u64>,
    good: Option<u64>,
    daemons: u64,
    vnis: BTreeMap<String, VniState>,
}

impl Shown {
    /// The links.
    pub fn into_links(self) -> ObservedLinks {
        self.links
    }
}

/// A node that was found to be as its inputs say.
#[derive(Debug)]
pub(super) struct Standing {
    shown: Shown,
    /// When all of it was looked at.
    since: Instant,
}

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// What the node shows now; `None` where it cannot be read, which is a whole look's to tell.
    pub async fn glance(&self) -> Option<Shown> {
        self.read_all().await.ok()
    }

    async fn read_all(&self) -> Result<Shown, PortError> {
        let hash = |text: String| BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        let links = self.ports.links.observe().await?;
        let (file, good) = (self.ports.config.read()?.map(hash), self.ports.config.last_good()?.map(hash));
        let daemons = self.ports.daemons.fingerprint().await?;
        Ok(Shown { links, file, good, daemons, vnis: self.ports.daemons.vnis().await? })
    }

    /// Whether that is what it showed when it was last found to be as the inputs of the last run say, and that is not long ago.
    pub fn stands(&self, shown: &Shown) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.shown == *shown && standing.since.elapsed() < WHOLE)
    }

    /// A whole look has found nothing to do, and what the node showed before it is what it shows now.
    pub async fn found(&mut self, shown: Shown) {
        let same = self.glance().await.is_some_and(|now| now == shown);
        self.standing = same.then_some(Standing { shown, since: Instant::now() });
    }
}
