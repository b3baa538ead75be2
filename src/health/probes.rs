//! What is asked over HTTP: whether the agent lives, and whether it has brought the node to where it should be.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

/// What the runs of the agent came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the run under way began.
    pub under_way: Option<Instant>,
    /// Whether a run has verified the node since the agent began.
    pub once: bool,
    /// Why the last run did not verify it; nothing where it did, or there was none yet.
    pub fault: Option<String>,
    /// Which VRF the last run left out because of something in its way; nothing where it left out none.
    pub left_out: Option<String>,
    /// VRFs with a VNI that FRR was verified to run, by interface name.
    pub vrfs: Vec<String>,
}

impl Progress {
    /// Whether any run has ended.
    pub fn ended(&self) -> bool {
        self.once || self.fault.is_some()
    }

    /// Why the node is not known to be as it should be.
    pub fn unverified(&self) -> Option<String> {
        match (&self.fault, self.once) {
            (Some(fault), _) => Some(fault.clone()),
            (None, true) => self.left_out.clone(),
            (None, false) => Some("no run has ended yet".to_owned()),
        }
    }
}

/// Whether the agent lives, and in which words.
fn lives(progress: &Progress, longest: Duration, now: Instant) -> (StatusCode, String) {
    match progress.under_way.map(|since| now.saturating_duration_since(since)) {
        Some(took) if took > longest => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("a run is under way since {}s\n", took.as_secs()))
        }
        _ => (StatusCode::OK, "ok\n".to_owned()),
    }
}

/// Whether the first run was verified, and how it is now.
fn ready(progress: &Progress) -> (StatusCode, String) {
    let status = if progress.once { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, progress.unverified().unwrap_or_else(|| "verified".to_owned()) + "\n")
}

#[derive(Clone)]
struct Asked {
    progress: watch::Receiver<Progress>,
    longest: Duration,
}

/// `/healthz` and `/readyz`.
pub fn routes(progress: watch::Receiver<Progress>, longest_run: Duration) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(async |State(asked): State<Asked>| lives(&asked.progress.borrow(), asked.longest, Instant::now())),
        )
        .route("/readyz", get(async |State(asked): State<Asked>| ready(&asked.progress.borrow())))
        .with_state(Asked { progress, longest: longest_run })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_ready_with_its_first_verified_run_and_says_what_is_wrong_later() {
        let mut progress = Progress::default();
        assert_eq!(ready(&progress), (StatusCode::SERVICE_UNAVAILABLE, "no run has ended yet\n".to_owned()));
        progress.fault = Some("FRR refuses line 7".to_owned());
        assert_eq!(ready(&progress).1, "FRR refuses line 7\n");
        progress = Progress { once: true, ..Progress::default() };
        assert_eq!(ready(&progress), (StatusCode::OK, "verified\n".to_owned()));
        progress.fault = Some("FRR refuses line 8".to_owned());
        assert_eq!(ready(&progress), (StatusCode::OK, "FRR refuses line 8\n".to_owned()));
        assert!(progress.unverified().is_some());
    }

    #[test]
    fn an_agent_whose_run_does_not_end_is_not_alive() {
        let now = Instant::now();
        let begun = |ago| Progress { under_way: now.checked_sub(ago), ..Progress::default() };
        let status = |progress: &Progress| lives(progress, Duration::from_secs(60), now).0;
        assert_eq!(status(&Progress::default()), StatusCode::OK);
        assert_eq!(status(&begun(Duration::from_secs(60))), StatusCode::OK);
        assert_eq!(status(&begun(Duration::from_secs(61))), StatusCode::SERVICE_UNAVAILABLE);
    }
}
