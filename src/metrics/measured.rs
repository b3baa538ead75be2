//! The pipeline's ports, with what they do counted.

use std::collections::BTreeMap;

use super::AgentMetrics;
use crate::frr::command::Verdict;
use crate::frr::config::{Config, Line};
use crate::link::{LinkOp, ObservedLinks};
use crate::reconcile::{ConfigPort, DaemonPort, LinkPort, PortError, Ports, ServicePort, VniState};

/// A port, and where its work is counted.
#[derive(Debug)]
pub struct Measured<P> {
    port: P,
    metrics: AgentMetrics,
}

/// All of them, counted.
pub(super) type MeasuredPorts<L, C, S, D> = Ports<Measured<L>, Measured<C>, Measured<S>, Measured<D>>;

/// Counts what all of these do.
pub fn measured<L, C, S, D>(ports: Ports<L, C, S, D>, metrics: &AgentMetrics) -> MeasuredPorts<L, C, S, D> {
    let Ports { links, config, service, daemons } = ports;
    Ports {
        links: Measured { port: links, metrics: metrics.clone() },
        config: Measured { port: config, metrics: metrics.clone() },
        service: Measured { port: service, metrics: metrics.clone() },
        daemons: Measured { port: daemons, metrics: metrics.clone() },
    }
}

impl<P: LinkPort + Sync> LinkPort for Measured<P> {
    async fn observe(&self) -> Result<ObservedLinks, PortError> {
        self.metrics.timed("observe", self.port.observe()).await
    }

    async fn may_write(&self) -> Result<(), PortError> {
        self.port.may_write().await
    }

    async fn apply(&self, ops: &[LinkOp]) -> Result<(), PortError> {
        if ops.is_empty() {
            return Ok(());
        }
        let applied = async {
            for op in ops {
                self.port.apply(std::slice::from_ref(op)).await?;
                self.metrics.link(op);
            }
            Ok(())
        };
        self.metrics.timed("links", applied).await
    }
}

impl<P: ConfigPort + Sync> ConfigPort for Measured<P> {
    fn read(&self) -> Result<Option<String>, PortError> {
        self.port.read()
    }

    async fn stage(&self, text: &str) -> Result<Vec<String>, PortError> {
        self.metrics.timed("stage", self.port.stage(text)).await
    }

    fn discard(&self) {
        self.port.discard();
    }

    fn commit(&self) -> Result<(), PortError> {
        self.port.commit()
    }

    fn restore(&self, text: &str) -> Result<(), PortError> {
        self.port.restore(text)
    }

    fn last_good(&self) -> Result<Option<String>, PortError> {
        self.port.last_good()
    }

    fn keep_good(&self, text: &str) -> Result<(), PortError> {
        self.port.keep_good(text)
    }
}

impl<P: ServicePort + Sync> Measured<P> {
    async fn counted(&self, work: impl Future<Output = Result<(), PortError>>) -> Result<(), PortError> {
        let result = self.metrics.timed("reload", work).await;
        self.metrics.reload(result.is_ok());
        result
    }
}

impl<P: ServicePort + Sync> ServicePort for Measured<P> {
    async fn running(&self) -> Result<bool, PortError> {
        self.port.running().await
    }

    async fn reload(&self) -> Result<(), PortError> {
        self.counted(self.port.reload()).await
    }

    fn was_tried(&self, error: &PortError) -> bool {
        self.port.was_tried(error)
    }

    async fn start(&self) -> Result<(), PortError> {
        self.counted(self.port.start()).await
    }

    async fn restart(&self) -> Result<(), PortError> {
        self.counted(self.port.restart()).await
    }
}

impl<P: DaemonPort + Sync> DaemonPort for Measured<P> {
    async fn running(&self) -> Result<Config, PortError> {
        self.metrics.timed("compare", self.port.running()).await
    }

    async fn fingerprint(&self) -> Result<u64, PortError> {
        self.port.fingerprint().await
    }

    async fn give(&self, lines: &[Line]) -> Result<Vec<Verdict>, PortError> {
        self.metrics.timed("give", self.port.give(lines)).await
    }

    async fn take(&self, lines: &[Line]) -> Result<(), PortError> {
        self.metrics.timed("take", self.port.take(lines)).await
    }

    async fn vnis(&self) -> Result<BTreeMap<String, VniState>, PortError> {
        self.port.vnis().await
    }

    async fn next_hops(&self) -> Result<BTreeMap<u32, usize>, PortError> {
        self.port.next_hops().await
    }

    async fn addressed(&self, neighbor: &str) -> Result<bool, PortError> {
        self.port.addressed(neighbor).await
    }

    async fn loses_neighbors(&self) -> Result<bool, PortError> {
        self.port.loses_neighbors().await
    }

    async fn forget_vrfs(&self, vrfs: &[String]) -> Result<BTreeMap<String, String>, PortError> {
        self.metrics.timed("forget", self.port.forget_vrfs(vrfs)).await
    }
}
