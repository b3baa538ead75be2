//! frr.service as systemd tells of it over D-Bus: when it starts, stops and reloads, and when it has.

use std::collections::HashMap;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zbus::Variant;

use super::{Trigger, patience};
use crate::systemd::{ServiceState, Systemd};

const PATH_OF_THE_BUS: &str = "/run/dbus/system_bus_socket";

/// Why nothing is heard of the unit.
#[derive(Debug, thiserror::Error)]
#[error("hear of {unit} from systemd: systemd and dbus must run on the node, and {PATH_OF_THE_BUS} be mounted here")]
struct ServiceWatchError {
    unit: String,
    #[source]
    source: zbus::Error,
}

/// Sends a trigger whenever the unit starts, stops or reloads, and when it has, until it is cancelled.
///
/// Where the bus goes away, it is sought again.
pub async fn watch(unit: String, triggers: mpsc::UnboundedSender<Trigger>, cancel: CancellationToken) {
    let (mut seen, mut failures) = (None, 0);
    loop {
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            ended = follow(&unit, &triggers, &mut seen, &mut failures) => ended,
        };
        // systemd itself is found again at once, and a bus that is started anew after a moment.
        let wait = patience(failures);
        if let Err(error) = ended {
            if failures == 0 {
                let error = super::with_causes(&ServiceWatchError { unit: unit.clone(), source: error });
                tracing::warn!(%error, "restarts of {unit} are found at the next check only");
            }
            failures += 1;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Listens until the bus goes away, or systemd is started anew.
async fn follow(
    unit: &str,
    triggers: &mpsc::UnboundedSender<Trigger>,
    seen: &mut Option<ServiceState>,
    failures: &mut u32,
) -> zbus::Result<()> {
    let systemd = Systemd::connect().await?;
    let mut owner = systemd.owner_changes().await?;
    let mut changes = systemd.property_changes(unit).await?;
    let state = systemd.service(unit).await?;
    // Asked for after the signals are: what happens in between is told.
    if *failures > 0 {
        tracing::info!("systemd tells of {unit} again");
    }
    if let Some(before) = seen.replace(state.clone()) {
        let _ = triggers.send(state.trigger(&before).unwrap_or(Trigger::Service));
    }
    *failures = 0;
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            _ = owner.next() => None,
        };
        let Some(change) = change else { return Ok(()) };
        let (Ok(change), Some(state)) = (change.args(), seen.as_mut()) else { continue };
        let before = state.clone();
        state.update(&change.changed_properties);
        if let Some(trigger) = state.trigger(&before) {
            let _ = triggers.send(trigger);
        }
    }
}

/// What of the unit's properties says that something happened. The main process is watchfrr, which a reload restarts.
impl ServiceState {
    fn update(&mut self, changed: &HashMap<&str, Variant<'_>>) {
        if let Some(Ok(active)) = changed.get("ActiveState").map(<&str>::try_from) {
            active.clone_into(&mut self.active);
        }
        if let Some(Ok(invocation)) = changed.get("InvocationID").map(|value| Vec::<u8>::try_from(value.clone())) {
            self.invocation = invocation;
        }
        if let Some(Ok(main_pid)) = changed.get("MainPID").map(u32::try_from) {
            self.main_pid = main_pid;
        }
    }

    fn trigger(&self, before: &Self) -> Option<Trigger> {
        if self == before {
            return None;
        }
        match self.active.as_str() {
            "active" if self.invocation != before.invocation || before.active == "activating" => {
                Some(Trigger::ServiceStarted)
            }
            "active" | "inactive" | "failed" => Some(Trigger::Service),
            // activating, deactivating, reloading, and what later versions know.
            _ => Some(Trigger::ServiceMoves),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, invocation: u8, main_pid: u32) -> ServiceState {
        ServiceState { active: active.to_owned(), invocation: vec![invocation], main_pid }
    }

    #[test]
    fn a_reload_moves_and_settles_and_only_a_start_is_a_start() {
        let reload = [state("active", 1, 5), state("reloading", 1, 5), state("reloading", 1, 9), state("active", 1, 9)];
        let restart = [
            state("active", 1, 9),
            state("deactivating", 1, 9),
            state("inactive", 1, 0),
            state("activating", 2, 0),
            state("active", 2, 11),
        ];
        let told =
            |states: &[ServiceState]| states.windows(2).map(|pair| pair[1].trigger(&pair[0])).collect::<Vec<_>>();
        let (moves, settled, started) =
            (Some(Trigger::ServiceMoves), Some(Trigger::Service), Some(Trigger::ServiceStarted));
        assert_eq!(told(&reload), [moves, moves, settled]);
        assert_eq!(told(&restart), [moves, settled, moves, started]);
        assert_eq!(state("active", 3, 5).trigger(&state("active", 2, 4)), started, "what was between was not heard");
        assert_eq!(state("active", 1, 6).trigger(&state("active", 1, 5)), settled);
        assert_eq!(state("active", 1, 5).trigger(&state("active", 1, 5)), None);
    }

    #[test]
    fn what_a_signal_says_is_taken_and_the_rest_stays() {
        let mut seen = state("active", 1, 5);
        seen.update(&HashMap::from([
            ("SubState", Variant::from("reload")),
            ("ActiveState", Variant::from("reloading")),
        ]));
        assert_eq!(seen, state("reloading", 1, 5));
        seen.update(&HashMap::from([("MainPID", Variant::from(7_u32)), ("InvocationID", Variant::from(vec![2_u8]))]));
        assert_eq!(seen, state("reloading", 2, 7));
    }
}
