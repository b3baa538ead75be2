//! The eBPF router's part of a run: looked at and put right on its own, so that neither waits for the other's faults.

use std::collections::BTreeSet;

use crate::bpf::host::HostRouter;
use crate::bpf::pins::Pins;
use crate::bpf::{DesiredRouter, ObservedRouter, RouterOp, RouterPlan, RouterProblem, plan};
use crate::config::OperatorConfig;
use crate::link::netlink::Netlink;
use crate::link::{LinkPlan, ObservedLinks};
use crate::metrics::AgentMetrics;
use crate::trigger::with_causes;

/// The router of this node.
pub(super) struct RouterStage {
    links: Netlink,
    host: HostRouter,
    /// What was last seen, where it was as it must be and nothing has been told of any filter since.
    seen: Option<ObservedRouter>,
    /// Problems that were told.
    told: BTreeSet<String>,
    metrics: AgentMetrics,
}

fn problem(error: &dyn std::error::Error) -> RouterProblem {
    RouterProblem { message: format!("the eBPF router: {}", with_causes(error)), cure: "it is tried again".to_owned() }
}

/// What became of it in a run.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// What was done, in words.
    pub(super) done: Vec<String>,
    /// What is not as it should be.
    pub(super) problems: Vec<RouterProblem>,
}

impl RouterStage {
    /// # Errors
    /// No netlink sockets.
    pub(super) fn new(links: Netlink, metrics: AgentMetrics) -> anyhow::Result<Self> {
        let host = HostRouter::new(&links, Pins::default())?;
        Ok(Self { links, host, seen: None, told: BTreeSet::new(), metrics })
    }

    /// Filters or links may have changed.
    pub(super) fn moved(&mut self) {
        self.seen = None;
    }

    /// Brings the router to where it must be, for the links as they are now. What fails is a problem, told once: the node does
    /// its work without the router, too. Where the links are known already, it is a glance: filters and ports are listed only where
    /// something was told of filters.
    pub(super) async fn settle(&mut self, config: &OperatorConfig, links: Option<ObservedLinks>) -> Settled {
        let mut settled = Settled::default();
        let metrics = self.metrics.clone();
        if let Err(error) = metrics.timed("router", self.put_right(config, links, &mut settled)).await {
            settled.problems.push(problem(error.as_ref()));
        }
        self.tell(&settled.problems);
        settled
    }

    async fn put_right(
        &mut self,
        config: &OperatorConfig,
        links: Option<ObservedLinks>,
        settled: &mut Settled,
    ) -> anyhow::Result<()> {
        let known = self.seen.take().filter(|_| links.is_some());
        let links = match (links, &known) {
            (Some(links), Some(_)) => links,
            _ => self.links.observe().await?,
        };
        let seen = self.host.observe(known).await?;
        // The links are there: nothing is planned for them any more.
        let RouterPlan { ops, problems } =
            plan(&DesiredRouter::new(config, &links), &links, &LinkPlan::default(), &seen);
        settled.problems = problems;
        self.seen = ops.is_empty().then_some(seen);
        let (done, errors) = self.host.apply(&ops).await;
        self.metrics.router(&done);
        settled.done = done.into_iter().map(RouterOp::to_string).collect();
        settled.problems.extend(errors.iter().map(|error| problem(error)));
        Ok(())
    }

    fn tell(&mut self, problems: &[RouterProblem]) {
        let mut now = BTreeSet::new();
        for RouterProblem { message: problem, cure } in problems {
            if !self.told.contains(problem) {
                tracing::error!(%problem, %cure, "the eBPF router is not all there");
            }
            now.insert(problem.clone());
        }
        self.told = now;
    }
}
