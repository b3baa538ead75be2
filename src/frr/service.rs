//! frr.service over systemd's D-Bus.

use std::time::Duration;

use futures::StreamExt;
use zbus::OwnedObjectPath;

/// How long systemd may take to answer a call; a job takes longer and has a limit of its own.
const ANSWER: Duration = Duration::from_secs(30);

/// systemd's manager (org.freedesktop.systemd1(5)).
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
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

/// The unit that is reloaded.
#[derive(Debug, Clone)]
pub struct FrrService {
    unit: String,
    limit: Duration,
}

/// Why a reload did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No bus.
    #[error(
        "connect to the system bus: systemd and dbus must run on the node, and /run/dbus/system_bus_socket be mounted here"
    )]
    Bus(#[source] zbus::Error),
    /// systemd does not know the unit.
    #[error("there is no {unit}: install FRR on the node (Debian package frr)")]
    NoUnit {
        /// The unit.
        unit: String,
    },
    /// Somebody has masked the unit.
    #[error("{unit} is masked: `systemctl unmask {unit}`")]
    Masked {
        /// The unit.
        unit: String,
    },
    /// systemd does not tell about the unit.
    #[error("ask systemd for {unit}")]
    Ask {
        /// The unit.
        unit: String,
        /// Its words.
        #[source]
        source: zbus::Error,
    },
    /// The unit is there, but does not run.
    #[error(
        "{unit} does not run, or has no ExecReload: start it (`systemctl start {unit}`); what it starts with is the new frr.conf"
    )]
    NotRunning {
        /// The unit.
        unit: String,
    },
    /// systemd refused the call.
    #[error("systemd refused to reload {unit}")]
    Refused {
        /// The unit.
        unit: String,
        /// Its words.
        #[source]
        source: zbus::Error,
    },
    /// The job ended otherwise than `done`.
    #[error("the reload of {unit} ended with {result:?}: see `journalctl -u {unit}`")]
    Failed {
        /// The unit.
        unit: String,
        /// systemd's job result (canceled, timeout, failed, dependency, skipped).
        result: String,
    },
    /// No end in time.
    #[error("the reload of {unit} did not end within {}s", limit.as_secs())]
    Slow {
        /// The unit.
        unit: String,
        /// The limit.
        limit: Duration,
    },
}

impl FrrService {
    /// Names the unit and how long its reload may take.
    pub fn new(unit: impl Into<String>, limit: Duration) -> Self {
        Self { unit: unit.into(), limit }
    }

    /// Makes sure that systemd answers and knows the unit, before anything is changed; tells whether it runs.
    ///
    /// # Errors
    /// No bus, no such unit, or a masked one.
    pub async fn running(&self) -> Result<bool, ServiceError> {
        let (connection, manager) = self.connect().await?;
        let ask = |source| ServiceError::Ask { unit: self.unit.clone(), source };
        let path = manager.load_unit(&self.unit).await.map_err(ask)?;
        let unit = UnitProxy::builder(&connection).path(path).build().await.map_err(ask)?;
        let unit_name = self.unit.clone();
        match unit.load_state().await.map_err(ask)?.as_str() {
            // While it reloads, it runs.
            "loaded" => Ok(matches!(unit.active_state().await.map_err(ask)?.as_str(), "active" | "reloading")),
            "masked" => Err(ServiceError::Masked { unit: unit_name }),
            _ => Err(ServiceError::NoUnit { unit: unit_name }),
        }
    }

    async fn connect(&self) -> Result<(zbus::Connection, ManagerProxy<'static>), ServiceError> {
        let builder = zbus::connection::Builder::system().method_timeout(ANSWER);
        let connection = builder.build().await.map_err(ServiceError::Bus)?;
        let manager = ManagerProxy::new(&connection).await.map_err(ServiceError::Bus)?;
        Ok((connection, manager))
    }

    /// Reloads the unit and waits for the end of the job.
    ///
    /// # Errors
    /// No bus, no unit, the unit does not run, or the job does not end with `done` in time. `done` is no proof that FRR
    /// took the configuration: since FRR 9.1 frrinit.sh says so whatever frr-reload.py said.
    pub async fn reload(&self) -> Result<(), ServiceError> {
        let (_connection, manager) = self.connect().await?;
        // The answer is missed by whoever listens after the call.
        let mut removed = manager.receive_job_removed().await.map_err(ServiceError::Bus)?;
        manager.subscribe().await.map_err(ServiceError::Bus)?;
        let job = manager.reload_unit(&self.unit, "replace").await.map_err(|error| self.refused(error))?;
        let end = async {
            while let Some(signal) = removed.next().await {
                let Ok(args) = signal.args() else { continue };
                if args.job == job {
                    return Some(args.result.clone());
                }
            }
            None
        };
        match tokio::time::timeout(self.limit, end).await {
            Err(_) => Err(ServiceError::Slow { unit: self.unit.clone(), limit: self.limit }),
            Ok(Some(result)) if result == "done" => Ok(()),
            Ok(result) => {
                let result = result.unwrap_or_else(|| "the bus went away".to_owned());
                Err(ServiceError::Failed { unit: self.unit.clone(), result })
            }
        }
    }

    fn refused(&self, source: zbus::Error) -> ServiceError {
        let unit = self.unit.clone();
        let name = match &source {
            zbus::Error::MethodError(name, ..) => name.as_str().to_owned(),
            _ => String::new(),
        };
        match name.as_str() {
            "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.systemd1.LoadFailed" => {
                ServiceError::NoUnit { unit }
            }
            "org.freedesktop.systemd1.UnitMasked" => ServiceError::Masked { unit },
            "org.freedesktop.systemd1.JobTypeNotApplicable" => ServiceError::NotRunning { unit },
            _ => ServiceError::Refused { unit, source },
        }
    }
}
