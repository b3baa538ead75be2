//! frr.service as systemd tells of it over D-Bus: when it starts, stops and reloads, and when it has.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zbus::fdo::PropertiesProxy;
use zbus::{OwnedObjectPath, Variant};

use super::{Trigger, patience};

/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
const PATH_OF_THE_BUS: &str = "/run/dbus/system_bus_socket";
/// systemd's manager (org.freedesktop.systemd1(5)).
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"), name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
}

/// Why nothing is heard of the unit.
#[derive(Debug, thiserror::Error)]
enum ServiceWatchError {
    #[error(
        "hear of {unit} from systemd: systemd and dbus must run on the node, and {PATH_OF_THE_BUS} be mounted here"
    )]
    Bus {
        unit: String,
        #[source]
        source: zbus::Error,
    },
    #[error("the bus went away, or systemd was started anew")]
    Lost,
}

/// Sends a trigger whenever the unit starts, stops or reloads, and when it has, until it is cancelled.
///
/// Where the bus goes away, it is sought again.
pub async fn watch(unit: String, triggers: mpsc::UnboundedSender<Trigger>, cancel: CancellationToken) {
    let (mut seen, mut failures) = (None, 0);
    loop {
        let error = tokio::select! {
            () = cancel.cancelled() => return,
            error = follow(&unit, &triggers, &mut seen, &mut failures) => error,
        };
        if failures == 0 {
            let error = super::with_causes(&error);
            tracing::warn!(%unit, %error, "restarts of the unit are found at the next check only");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(patience(failures)) => failures += 1,
        }
    }
}

/// Listens until the bus is lost, or cannot be had.
async fn follow(
    unit: &str,
    triggers: &mpsc::UnboundedSender<Trigger>,
    seen: &mut Option<State>,
    failures: &mut u32,
) -> ServiceWatchError {
    let listened = async {
        let connection = zbus::connection::Builder::system().method_timeout(ANSWER).build().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let mut owner = manager.inner().receive_owner_changed().await?;
        let path = manager.load_unit(unit).await?;
        let properties = PropertiesProxy::builder(&connection).destination("org.freedesktop.systemd1");
        let properties = properties.path(&path).build().await?;
        let mut changes = properties.receive_properties_changed().await?;
        manager.subscribe().await?;
        let state = State::read(&connection, &path).await?;
        // Asked for after the signals are: what happens in between is told.
        if let Some(before) = seen.replace(state.clone()) {
            tracing::info!(%unit, "systemd tells of the unit again");
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
    };
    match listened.await {
        Ok(()) => ServiceWatchError::Lost,
        Err(source) => ServiceWatchError::Bus { unit: unit.to_owned(), source },
    }
}

/// What of the unit's properties says that something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    active: String,
    /// Another one with each start, the same over a reload.
    invocation: Vec<u8>,
    /// watchfrr; a reload restarts it.
    main_pid: u32,
}

impl State {
    async fn read(connection: &zbus::Connection, path: &OwnedObjectPath) -> zbus::Result<Self> {
        let unit = UnitProxy::builder(connection).path(path).build().await?;
        let service = ServiceProxy::builder(connection).path(path).build().await?;
        Ok(Self {
            active: unit.active_state().await?,
            invocation: unit.invocation_id().await?,
            main_pid: service.main_pid().await?,
        })
    }

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
