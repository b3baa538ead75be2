//! Conditions, in the form of the Kubernetes API. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Most that a message has, in bytes: somebody is to read it.
const LONGEST: usize = 1024;

/// What a condition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    Unknown,
}

impl Holds {
    fn word(self) -> &'static str {
        match self {
            Self::Yes => "True",
            Self::No => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The condition as it is now; its time is that of the last change from one status to another.
pub(super) fn condition(
    kind: &str,
    holds: Holds,
    (reason, message): (&str, String),
    generation: Option<i64>,
    old: &[Condition],
    now: Timestamp,
) -> Condition {
    let status = holds.word().to_owned();
    // The API server wants one that is not empty, because an empty one is not sent.
    let message = if message.is_empty() { reason.to_owned() } else { message };
    let before = old.iter().find(|old| old.type_ == kind && old.status == status);
    Condition {
        last_transition_time: before.map_or(Time(now), |old| old.last_transition_time.clone()),
        message: shortened(message),
        observed_generation: generation,
        reason: reason.to_owned(),
        status,
        type_: kind.to_owned(),
    }
}

/// Cut where it is too long.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST - 4).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push_str(" …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_condition_is_that_of_its_last_change() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ready =
            |holds, old: &[Condition], second| condition("Ready", holds, ("R", String::new()), None, old, at(second));
        let first = ready(Holds::Yes, &[], 1);
        let same = ready(Holds::Yes, std::slice::from_ref(&first), 2);
        assert_eq!(same.last_transition_time, Time(at(1)));
        assert_eq!(same.message, "R", "never empty");
        assert_eq!(ready(Holds::No, &[same], 3).last_transition_time, Time(at(3)));
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let text = shortened("ä".repeat(1000));
        assert!(text.len() <= LONGEST && text.ends_with("ä …"), "{text}");
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
