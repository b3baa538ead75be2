//! A netlink socket that tells of changes: lost and opened anew, told once each, with what was missed meanwhile made good.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Trigger, patience};

/// Room for any datagram, in bytes.
pub(super) const LONGEST: usize = 64 * 1024;
/// A storm of events is over before it is listened to again.
const PAUSE: Duration = Duration::from_millis(200);

/// What is known of it between one socket and the next.
#[derive(Debug)]
pub(super) struct Source {
    /// What it tells of, in words.
    what: &'static str,
    /// What stands for all that may have been missed.
    trigger: Trigger,
    missed: bool,
    failures: u32,
}

impl Source {
    pub(super) fn new(what: &'static str, trigger: Trigger) -> Self {
        Self { what, trigger, missed: false, failures: 0 }
    }

    /// A socket is open.
    pub(super) fn opened(&mut self, triggers: &mpsc::UnboundedSender<Trigger>) {
        if self.failures > 0 {
            tracing::info!("changes of {} are heard of again", self.what);
        }
        if self.missed {
            let _ = triggers.send(self.trigger);
        }
        self.failures = 0;
    }

    /// An open socket failed: the kernel could not keep up with telling us (ENOBUFS), or worse. Gives how long to wait.
    pub(super) fn lost(&mut self, error: &io::Error) -> Duration {
        tracing::debug!(%error, "changes of {} were missed", self.what);
        self.missed = true;
        PAUSE
    }

    /// No socket is to be had: anything may change unheard. Gives how long to wait.
    pub(super) fn refused(&mut self, error: &io::Error, triggers: &mpsc::UnboundedSender<Trigger>) -> Duration {
        if self.failures == 0 {
            tracing::warn!(%error, "cannot hear of changes of {}: they are found at the next check only", self.what);
        }
        let _ = triggers.send(self.trigger);
        self.missed = true;
        self.failures += 1;
        patience(self.failures)
    }
}
