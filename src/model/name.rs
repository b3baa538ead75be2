//! Names that reach the kernel and FRR: interfaces and VRFs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A VRF's name as objects and the operator file give it: 1 to 12 characters, so that `vr.NAME` still fits
/// an interface name (IFNAMSIZ 16 with the closing zero).
///
/// Letters, digits, `_`, `-` and `.` only. The kernel allows more, but FRR reads `!` and `#` as comments and
/// `|` as a filter, and the kernel itself expands `%d`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VrfName(String);

/// A name of a network interface: 1 to 15 bytes without `/`, `:` and white space (kernel `dev_valid_name`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl VrfName {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 12;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IfName {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VrfName {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
        if (1..=Self::MAX_LEN).contains(&value.len()) && value.bytes().all(allowed) {
            return Ok(Self(value.to_owned()));
        }
        Err(Invalid::new(value, "a VRF name of 1 to 12 letters, digits, '_', '-' or '.'"))
    }
}

impl FromStr for IfName {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let allowed = |c: u8| c.is_ascii_graphic() && !matches!(c, b'/' | b':' | b'%');
        let fits = (1..=Self::MAX_LEN).contains(&value.len());
        if fits && value != "." && value != ".." && value.bytes().all(allowed) {
            return Ok(Self(value.to_owned()));
        }
        Err(Invalid::new(value, "an interface name of 1 to 15 characters without '/', ':', '%' and white space"))
    }
}

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(value: String) -> Result<Self, Invalid> {
                value.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}
text!(VrfName);
text!(IfName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vrf_name_fits_an_interface_name_and_one_word_of_frr() {
        for good in ["a", "Vrf_coil", "m2m.prod-1", "123456789012"] {
            assert_eq!(good.parse::<VrfName>().unwrap().as_str(), good);
        }
        for bad in ["", "1234567890123", "a b", "a\n", "a/b", "a:b", "a!b", "a#", "x|y", "ä", "%d", "a\0"] {
            assert!(bad.parse::<VrfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_interface_name_is_what_the_kernel_takes() {
        for good in ["dum.underlay", "vx.200", "mgmt_vrf_def", "eth0"] {
            assert_eq!(good.parse::<IfName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "vr.%d", "1234567890123456"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }
}
