//! frr.service over systemd's D-Bus.

use std::time::Duration;

use crate::systemd::Systemd;

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
    #[error("systemd refuses to have {unit} reloaded or started")]
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
    /// It does not come up.
    #[error("{unit} did not come up ({result}): see `journalctl -u {unit}`")]
    NotUp {
        /// The unit.
        unit: String,
        /// systemd's job result.
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

impl ServiceError {
    /// Whether the reload ran, to whatever end. One that was canceled gave way to somebody who starts or stops the unit.
    pub fn was_tried(&self) -> bool {
        match self {
            Self::Failed { result, .. } => result != "canceled",
            Self::Slow { .. } => true,
            _ => false,
        }
    }
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
        let unit = self.unit.clone();
        let systemd = Systemd::connect().await.map_err(ServiceError::Bus)?;
        let state = systemd.unit(&unit).await;
        let state = state.map_err(|source| ServiceError::Ask { unit: unit.clone(), source })?;
        match state.load.as_str() {
            // While it reloads, it runs.
            "loaded" => Ok(matches!(state.active.as_str(), "active" | "reloading")),
            "masked" => Err(ServiceError::Masked { unit }),
            _ => Err(ServiceError::NoUnit { unit }),
        }
    }

    /// Reloads the unit and waits for the end of the job.
    ///
    /// # Errors
    /// No bus, no unit, the unit does not run, or the job does not end with `done` in time. `done` is no proof that FRR
    /// took the configuration: since FRR 9.1 frrinit.sh says so whatever frr-reload.py said.
    pub async fn reload(&self) -> Result<(), ServiceError> {
        let systemd = Systemd::connect().await.map_err(ServiceError::Bus)?;
        let result = systemd.reload(&self.unit, self.limit).await.map_err(|error| self.refused(error))?;
        match result {
            None => Err(ServiceError::Slow { unit: self.unit.clone(), limit: self.limit }),
            Some(result) if result == "done" => Ok(()),
            // The job of a unit that is not active.
            Some(result) if result == "invalid" => Err(ServiceError::NotRunning { unit: self.unit.clone() }),
            Some(result) => Err(ServiceError::Failed { unit: self.unit.clone(), result }),
        }
    }

    /// Starts the unit, and waits until it is up.
    ///
    /// # Errors
    /// No bus, no unit, or it does not come up in time.
    pub async fn start(&self) -> Result<(), ServiceError> {
        let systemd = Systemd::connect().await.map_err(ServiceError::Bus)?;
        self.is_up(systemd.start(&self.unit, self.limit).await)
    }

    /// Restarts the unit: all sessions of the node are lost.
    ///
    /// # Errors
    /// As [`FrrService::start`].
    pub async fn restart(&self) -> Result<(), ServiceError> {
        let systemd = Systemd::connect().await.map_err(ServiceError::Bus)?;
        self.is_up(systemd.restart(&self.unit, self.limit).await)
    }

    fn is_up(&self, job: zbus::Result<Option<String>>) -> Result<(), ServiceError> {
        let result = job.map_err(|error| self.refused(error))?.unwrap_or_else(|| "no end in time".to_owned());
        if result == "done" { Ok(()) } else { Err(ServiceError::NotUp { unit: self.unit.clone(), result }) }
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
