//! systemd over D-Bus: a connection, units, jobs that are waited for.

use std::time::Duration;

use futures::StreamExt;
use zbus::OwnedObjectPath;
use zbus::Variant;

/// How long systemd may take to answer a call; a job takes longer and has a limit of its own.
const ANSWER: Duration = Duration::from_secs(30);

/// Name and value of a unit's property.
pub(super) type Property<'a> = (&'a str, Variant<'a>);

/// systemd's manager (org.freedesktop.systemd1(5)).
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[Property<'_>],
        aux: &[(&str, &[Property<'_>])],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// One of its units.
#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
}

/// The states of a unit.
#[derive(Debug)]
pub(super) struct UnitState {
    /// `loaded`, `not-found`, `masked`, …
    pub(super) load: String,
    /// `active`, `reloading`, `failed`, …
    pub(super) active: String,
}

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Systemd {
    connection: zbus::Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    pub(super) async fn connect() -> zbus::Result<Self> {
        let builder = zbus::connection::Builder::system().method_timeout(ANSWER);
        let connection = builder.build().await?;
        let manager = ManagerProxy::new(&connection).await?;
        Ok(Self { connection, manager })
    }

    pub(super) async fn unit(&self, name: &str) -> zbus::Result<UnitState> {
        let path = self.manager.load_unit(name).await?;
        let unit = UnitProxy::builder(&self.connection).path(path).build().await?;
        Ok(UnitState { load: unit.load_state().await?, active: unit.active_state().await? })
    }

    /// Reloads a unit; gives the result of the job (`done`, `failed`, `canceled`, …), `None` where it has no end in time.
    pub(super) async fn reload(&self, name: &str, limit: Duration) -> zbus::Result<Option<String>> {
        self.job(limit, self.manager.reload_unit(name, "replace")).await
    }

    /// Starts or restarts a unit; gives the result of the job as [`Systemd::reload`] does.
    pub(super) async fn bring_up(&self, name: &str, restart: bool, limit: Duration) -> zbus::Result<Option<String>> {
        let job = async {
            if restart {
                self.manager.restart_unit(name, "replace").await
            } else {
                self.manager.start_unit(name, "replace").await
            }
        };
        self.job(limit, job).await
    }

    /// Runs a transient unit to its end; gives the result of the job as [`Systemd::reload`] does.
    pub(super) async fn run(
        &self,
        name: &str,
        properties: &[Property<'_>],
        limit: Duration,
    ) -> zbus::Result<Option<String>> {
        self.job(limit, self.manager.start_transient_unit(name, "replace", properties, &[])).await
    }

    async fn job(
        &self,
        limit: Duration,
        begin: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> zbus::Result<Option<String>> {
        // The answer is missed by whoever listens after the call.
        let mut removed = self.manager.receive_job_removed().await?;
        self.manager.subscribe().await?;
        let job = begin.await?;
        let end = async {
            while let Some(signal) = removed.next().await {
                let Ok(args) = signal.args() else { continue };
                if args.job == job {
                    return args.result.clone();
                }
            }
            "the bus went away".to_owned()
        };
        Ok(tokio::time::timeout(limit, end).await.ok())
    }
}
