//! A look at the node that only asks whether it is as a whole look found it: that one judges, renders, parses and compares, this one
//! reads.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::pipeline::Pipeline;
use super::{ConfigPort, DaemonPort, LinkPort, PortError, ServicePort, VniState};
use crate::link::ObservedLinks;

/// Every so many looks one is a whole one again, whatever the node shows.
const WHOLE: u32 = 10;

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
    /// How often it was only glanced at since.
    glances: u32,
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

    /// Whether that is what it showed when it was last found to be as the inputs of the last run say.
    pub fn stands(&mut self, shown: &Shown) -> bool {
        let same = self.standing.as_mut().filter(|standing| standing.shown == *shown);
        same.is_some_and(|standing| {
            standing.glances += 1;
            standing.glances < WHOLE
        })
    }

    /// A whole look has found nothing to do, and what the node showed before it is what it shows now.
    pub async fn found(&mut self, shown: Shown) {
        let same = self.glance().await.is_some_and(|now| now == shown);
        self.standing = same.then_some(Standing { shown, glances: 0 });
    }
}
