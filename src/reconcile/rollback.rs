//! Goes back to the last good configuration where a new one cannot be had.

use super::configure::Before;
use super::error::{Restored, RunError, step};
use super::goal::Goal;
use super::pipeline::Pipeline;
use super::{ConfigPort, DaemonPort, LinkPort, Prepared, ServicePort};
use crate::config::OnReloadFailure;
use crate::frr::compare::Difference;

/// Lines that must go before others can come are few; one round gives, the next takes, and both once more.
const ROUNDS: usize = 3;

impl<L: LinkPort, C: ConfigPort, S: ServicePort, D: DaemonPort> Pipeline<L, C, S, D> {
    /// Goes back to the last good configuration.
    pub(super) async fn not_verified(
        &mut self,
        goal: &Goal,
        before: &Before,
        prepared: &Prepared,
        why: String,
    ) -> RunError {
        tracing::error!(%why, "FRR does not run the new configuration");
        let target = before.target().filter(|target| *target != prepared.text);
        let restored = match target {
            None => self.restart_if_allowed(goal, prepared, Restored::Nothing).await,
            Some(target) => {
                let old = Goal::new(target, [prepared.text.as_str()]);
                match self.restore(target, &old, prepared).await.into() {
                    Restored::LastGood => Restored::LastGood,
                    failed => self.restart_if_allowed(&old, prepared, failed).await,
                }
            }
        };
        RunError::NotVerified { why, restored }
    }

    async fn restore(&mut self, text: &str, goal: &Goal, prepared: &Prepared) -> Result<Difference, RunError> {
        self.ports.config.restore(text).map_err(step("write the last good frr.conf"))?;
        self.stopped |= !self.ports.service.running().await.map_err(step("ask for frr.service"))?;
        self.start_again().await?;
        let left = self.converge(goal, prepared).await?;
        if left.is_empty() {
            return Ok(left);
        }
        self.ports.service.reload().await.map_err(step("reload the last good configuration"))?;
        self.shown(goal).await
    }

    /// Starts FRR where a reload of ours has stopped it, as 8.4.4 does when its reload fails. It ran before: no restart.
    pub(super) async fn start_again(&mut self) -> Result<(), RunError> {
        if !self.stopped {
            return Ok(());
        }
        tracing::warn!("the reload has stopped frr.service: starting it with the last good configuration");
        self.ports.service.start().await.map_err(step("start FRR"))?;
        self.stopped = false;
        self.seen().await?;
        Ok(())
    }

    /// Gives and takes lines until FRR runs the goal; gives what is left.
    pub(super) async fn converge(&mut self, goal: &Goal, prepared: &Prepared) -> Result<Difference, RunError> {
        let (mut left, mut seen) = self.difference(goal).await?;
        for _ in 0..ROUNDS {
            if left.is_empty() {
                break;
            }
            // What one daemon cannot be given keeps the new lines in no other.
            let given = self.ports.daemons.give(&left.missing).await;
            left = self.difference(goal).await?.0;
            self.ports.daemons.take(&left.extra).await.map_err(step("take the new lines out of FRR"))?;
            given.map_err(step("give FRR the old lines back"))?;
            (left, seen) = self.difference(goal).await?;
        }
        self.forget(&goal.config, &seen, &prepared.standing).await?;
        Ok(left)
    }

    async fn restart_if_allowed(&mut self, goal: &Goal, prepared: &Prepared, otherwise: Restored) -> Restored {
        if prepared.on_reload_failure != OnReloadFailure::Restart {
            return otherwise;
        }
        tracing::warn!("restarting frr.service, as `onReloadFailure: restart` asks for");
        let restarted = async {
            self.ports.service.restart().await.map_err(step("restart FRR"))?;
            self.seen().await?;
            self.shown(goal).await
        };
        restarted.await.into()
    }
}
