//! systemd over D-Bus: a connection, units and their properties, jobs that are waited for.

use std::time::Duration;

use futures::StreamExt;
use zbus::fdo::{PropertiesChangedStream, PropertiesProxy};
use zbus::proxy::OwnerChangedStream;
use zbus::{OwnedObjectPath, Variant};

/// How long systemd may take to answer a call; a job takes longer and has a limit of its own.
const ANSWER: Duration = Duration::from_secs(30);

/// Name and value of a unit's property.
pub(crate) type Property<'a> = (&'a str, Variant<'a>);

/// systemd's manager (org.freedesktop.systemd1(5)).
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
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

/// A unit in a list: its name and description, load state, active state, sub state, the unit that it follows, its path, and the number,
/// kind and path of its job.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// One of its units.
#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"), name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
}

/// What only services have.
#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
}

/// The states of a unit.
#[derive(Debug)]
pub(crate) struct UnitState {
    /// `loaded`, `not-found`, `masked`, …
    pub(crate) load: String,
    /// `active`, `reloading`, `failed`, …
    pub(crate) active: String,
}

/// What tells one life of a service from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceState {
    /// `active`, `reloading`, `failed`, …
    pub(crate) active: String,
    /// Another one with each start, the same over a reload.
    pub(crate) invocation: Vec<u8>,
    /// Its main process; 0 where it has none.
    pub(crate) main_pid: u32,
}

/// A connection to systemd.
#[derive(Debug)]
pub(crate) struct Systemd {
    connection: zbus::Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    pub(crate) async fn connect() -> zbus::Result<Self> {
        let builder = zbus::connection::Builder::system().method_timeout(ANSWER);
        let connection = builder.build().await?;
        let manager = ManagerProxy::new(&connection).await?;
        Ok(Self { connection, manager })
    }

    pub(crate) async fn unit(&self, name: &str) -> zbus::Result<UnitState> {
        let path = self.manager.load_unit(name).await?;
        let unit = UnitProxy::builder(&self.connection).path(path).build().await?;
        Ok(UnitState { load: unit.load_state().await?, active: unit.active_state().await? })
    }

    /// Its active state and the finer one: `active` and `running`, `active` and `exited`, … In one call, for it is asked for again and
    /// again.
    pub(crate) async fn activity(&self, name: &str) -> zbus::Result<(String, String)> {
        let unit = self.manager.list_units_by_names(&[name]).await?.into_iter().next();
        let (_, _, _, active, sub, ..) = unit.ok_or_else(|| zbus::Error::Failure(format!("no word of {name}")))?;
        Ok((active, sub))
    }

    pub(crate) async fn service(&self, name: &str) -> zbus::Result<ServiceState> {
        let path = self.manager.load_unit(name).await?;
        let unit = UnitProxy::builder(&self.connection).path(&path).build().await?;
        let service = ServiceProxy::builder(&self.connection).path(&path).build().await?;
        Ok(ServiceState {
            active: unit.active_state().await?,
            invocation: unit.invocation_id().await?,
            main_pid: service.main_pid().await?,
        })
    }

    /// Changes of a unit's properties, from now on.
    pub(crate) async fn property_changes(&self, name: &str) -> zbus::Result<PropertiesChangedStream> {
        let path = self.manager.load_unit(name).await?;
        let properties = PropertiesProxy::builder(&self.connection).destination("org.freedesktop.systemd1");
        let changes = properties.path(path).build().await?.receive_properties_changed().await?;
        self.manager.subscribe().await?;
        Ok(changes)
    }

    /// Tells when systemd itself goes from the bus or comes to it.
    pub(crate) async fn owner_changes(&self) -> zbus::Result<OwnerChangedStream<'static>> {
        self.manager.inner().receive_owner_changed().await
    }

    /// Reloads a unit; gives the result of the job (`done`, `failed`, `canceled`, …), `None` where it has no end in time.
    pub(crate) async fn reload(&self, name: &str, limit: Duration) -> zbus::Result<Option<String>> {
        self.job(limit, self.manager.reload_unit(name, "replace")).await
    }

    /// Starts a unit; gives the result of the job as [`Systemd::reload`] does.
    pub(crate) async fn start(&self, name: &str, limit: Duration) -> zbus::Result<Option<String>> {
        self.forgive(name).await;
        self.job(limit, self.manager.start_unit(name, "replace")).await
    }

    /// Restarts a unit as [`Systemd::start`] starts one.
    pub(crate) async fn restart(&self, name: &str, limit: Duration) -> zbus::Result<Option<String>> {
        self.forgive(name).await;
        self.job(limit, self.manager.restart_unit(name, "replace")).await
    }

    /// What counted against the unit's start limit (`StartLimitBurst=`, systemd.unit(5)) does not any more: whoever asks for
    /// a start has a back-off of his own.
    async fn forgive(&self, name: &str) {
        // A unit that systemd has not loaded has nothing that counts; whatever else is wrong, the start will say.
        let _ = self.manager.reset_failed_unit(name).await;
    }

    /// Runs a transient unit to its end; gives the result of the job as [`Systemd::reload`] does.
    pub(crate) async fn run(
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
