//! Why a run did not get to its end, in words that name step, object and cure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{PortError, PrepareError};
use crate::frr::compare::Difference;
use crate::trigger::with_causes;

/// Why a run did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing could be planned, and nothing was touched.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A step failed; the next run begins where it stopped.
    #[error("{step}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// What happened.
        #[source]
        source: PortError,
    },
    /// FRR's syntax check does not take the new configuration; nothing was touched.
    #[error("FRR refuses the new configuration, so frr.conf stays as it is; {}: correct the template, the section templates or `replacements`", lines.join("; "))]
    Refused {
        /// FRR's words to each line.
        lines: Vec<String>,
    },
    /// FRR was given the new lines, and did not take some; what it took was taken back.
    #[error("Failed: FRR does not take the new configuration, so frr.conf stays as it is and was not reloaded; {}; {restored}", lines.join("; "))]
    NotTaken {
        /// FRR's words to each line.
        lines: Vec<String>,
        /// What FRR runs now.
        restored: Restored,
    },
    /// FRR was reloaded, and runs something else than was meant.
    #[error("Failed: after the reload FRR does not run the new configuration; {why}; {restored}")]
    NotVerified {
        /// What differs.
        why: String,
        /// What FRR runs now.
        restored: Restored,
    },
    /// zebra does not know a VNI that the configuration gives it.
    #[error("FRR has not mapped {missing} after {}s: is the line in frr.conf, and what does `vtysh -c 'show vrf vni'` say?", limit.as_secs())]
    NotMapped {
        /// The VRFs and VNIs.
        missing: Missing,
        /// The limit.
        limit: Duration,
    },
    /// FRR keeps the stanzas of VRFs whose devices are gone.
    #[error("FRR still has the VRFs {} in its running configuration after {}s", kept(left), limit.as_secs())]
    NotForgotten {
        /// The VRFs, by interface name, and what FRR says.
        left: BTreeMap<String, String>,
        /// The limit.
        limit: Duration,
    },
    /// An L3 VNI stays down.
    #[error("the L3 VNI of {missing} is not up after {}s: see `vtysh -c 'show vrf vni'`", limit.as_secs())]
    NotUp {
        /// The VRFs and VNIs.
        missing: Missing,
        /// The limit.
        limit: Duration,
    },
}

/// VRFs whose VNI is not as it should be: interface name and VNI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing(pub Vec<(String, u32)>);

impl Missing {
    /// Whether all are as they should be.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.iter().map(|(vrf, vni)| format!("{vrf} (VNI {vni})"));
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

impl RunError {
    /// The VRFs that are not in force, by interface name, where FRR was seen to run the configuration; `None` where nobody
    /// knows which are.
    pub fn down(&self) -> Option<Vec<&str>> {
        match self {
            Self::NotMapped { missing, .. } | Self::NotUp { missing, .. } => {
                Some(missing.0.iter().map(|(vrf, _)| vrf.as_str()).collect())
            }
            // They are of VRFs that have gone.
            Self::NotForgotten { .. } => Some(Vec::new()),
            _ => None,
        }
    }
}

/// What FRR runs after a change that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Restored {
    /// What it ran before, as was seen.
    #[error("the last good configuration is running again")]
    LastGood,
    /// There is none that would be another one.
    #[error("there is no other configuration to go back to")]
    Nothing,
    /// Neither the new nor the old one.
    #[error("and the last good configuration could not be restored: {0}")]
    Failed(String),
}

impl From<Result<Difference, RunError>> for Restored {
    /// What is left on the way back to the last good configuration.
    fn from(left: Result<Difference, RunError>) -> Self {
        match left {
            Ok(left) if left.is_empty() => Self::LastGood,
            Ok(left) => Self::Failed(left.to_string()),
            Err(error) => Self::Failed(with_causes(&error)),
        }
    }
}

fn kept(left: &BTreeMap<String, String>) -> String {
    left.iter().map(|(vrf, why)| format!("{vrf} ({why})")).collect::<Vec<_>>().join(", ")
}

pub(super) fn step<E: Into<PortError>>(step: &'static str) -> impl FnOnce(E) -> RunError {
    move |source| RunError::Step { step, source: source.into() }
}
