//! One line of a prefix-list.

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

/// What a matching prefix-list line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The prefix matches.
    Permit,
    /// The prefix does not match.
    Deny,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
        })
    }
}

/// One line of `ip prefix-list` or `ipv6 prefix-list`, in the form that FRR prints back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrefixRule {
    seq: u32,
    action: Action,
    prefix: IpNet,
    ge: Option<u8>,
    le: Option<u8>,
}

/// What is wrong with a prefix-list line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixRuleError {
    /// The address has bits right of the prefix length.
    #[error("{prefix} has host bits set; the network is {network}")]
    HostBits {
        /// As given.
        prefix: IpNet,
        /// With the host bits cleared.
        network: IpNet,
    },
    /// `ge` is outside of the range FRR takes.
    #[error("ge {ge} is below the prefix length {len}, or not from 1 to {max}")]
    Ge {
        /// As given.
        ge: i64,
        /// Length of the prefix.
        len: u8,
        /// 32 or 128.
        max: u8,
    },
    /// `le` is outside of the range FRR takes.
    #[error("le {le} is below the prefix length {len}, or not from 1 to {max}")]
    Le {
        /// As given.
        le: i64,
        /// Length of the prefix.
        len: u8,
        /// 32 or 128.
        max: u8,
    },
    /// `ge` is above `le`.
    #[error("ge {ge} is above le {le}")]
    GeAboveLe {
        /// As given.
        ge: u8,
        /// As given.
        le: u8,
    },
    /// Sequence 0 or above 32 bits.
    #[error("seq {0} is not from 1 to 4294967295")]
    Seq(i64),
}

impl PrefixRule {
    /// Checks a line as FRR does: prefix length <= ge <= le <= 32 (IPv4) or 128 (IPv6) (`prefix_list_length_validate`).
    /// A zero is refused: FRR does not print it back.
    ///
    /// # Errors
    /// The first rule that the line breaks.
    pub fn new(
        seq: i64,
        action: Action,
        prefix: IpNet,
        ge: Option<i64>,
        le: Option<i64>,
    ) -> Result<Self, PrefixRuleError> {
        let seq = u32::try_from(seq).ok().filter(|s| *s > 0).ok_or(PrefixRuleError::Seq(seq))?;
        let network = prefix.trunc();
        if network != prefix {
            return Err(PrefixRuleError::HostBits { prefix, network });
        }
        let (len, max) = (prefix.prefix_len(), prefix.max_prefix_len());
        let within = |value: i64| u8::try_from(value).ok().filter(|v| *v >= len.max(1) && *v <= max);
        let ge = ge.map(|ge| within(ge).ok_or(PrefixRuleError::Ge { ge, len, max })).transpose()?;
        let le = le.map(|le| within(le).ok_or(PrefixRuleError::Le { le, len, max })).transpose()?;
        if let (Some(ge), Some(le)) = (ge, le)
            && ge > le
        {
            return Err(PrefixRuleError::GeAboveLe { ge, le });
        }
        Ok(Self { seq, action, prefix, ge, le })
    }

    /// Sequence number within the list, 1 to 4294967295.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// Whether matching routes pass.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The network.
    pub fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// Whether the line belongs into `ipv6 prefix-list`.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.prefix, IpNet::V6(_))
    }
}

impl fmt::Display for PrefixRule {
    /// The part of the line behind the list's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, action, prefix, ge, le } = self;
        write!(f, "seq {seq} {action} {prefix}")?;
        if let Some(ge) = ge {
            write!(f, " ge {ge}")?;
        }
        if let Some(le) = le {
            write!(f, " le {le}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, ge: Option<i64>, le: Option<i64>) -> Result<String, PrefixRuleError> {
        PrefixRule::new(10, Action::Permit, prefix.parse().unwrap(), ge, le).map(|r| r.to_string())
    }

    #[test]
    fn a_good_line_prints_as_frr_writes_it() {
        assert_eq!(rule("203.0.113.0/24", None, Some(32)).unwrap(), "seq 10 permit 203.0.113.0/24 le 32");
        assert_eq!(rule("203.0.113.0/24", Some(24), Some(24)).unwrap(), "seq 10 permit 203.0.113.0/24 ge 24 le 24");
        assert_eq!(rule("2001:db8::/32", Some(48), Some(64)).unwrap(), "seq 10 permit 2001:db8::/32 ge 48 le 64");
    }

    #[test]
    fn what_frr_refuses_is_refused_with_the_numbers() {
        assert!(rule("203.0.113.1/24", None, None).unwrap_err().to_string().contains("203.0.113.0/24"));
        assert!(matches!(rule("203.0.113.0/24", Some(33), None), Err(PrefixRuleError::Ge { max: 32, .. })));
        assert!(matches!(rule("203.0.113.0/24", Some(23), None), Err(PrefixRuleError::Ge { .. })));
        assert!(matches!(rule("203.0.113.0/24", None, Some(23)), Err(PrefixRuleError::Le { .. })));
        assert!(matches!(rule("0.0.0.0/0", Some(0), None), Err(PrefixRuleError::Ge { .. })));
        assert!(matches!(rule("203.0.113.0/24", Some(28), Some(26)), Err(PrefixRuleError::GeAboveLe { .. })));
        assert!(matches!(rule("2001:db8::/32", Some(129), None), Err(PrefixRuleError::Ge { max: 128, .. })));
        assert!(matches!(rule("203.0.113.0/24", Some(-1), None), Err(PrefixRuleError::Ge { .. })));
    }
}
