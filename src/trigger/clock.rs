//! The slow check for what no event tells.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Trigger;

/// Sends a trigger once in a while, until it is cancelled; never, where the interval is zero.
pub async fn tick(every: Duration, triggers: mpsc::UnboundedSender<Trigger>, cancel: CancellationToken) {
    while !every.is_zero() {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(every) => drop(triggers.send(Trigger::Clock)),
        }
    }
}
