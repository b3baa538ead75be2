//! BGP values: AS number, route target, communities.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// An autonomous system number, 1 to 4294967295 (RFC 6793; 0 is reserved, RFC 7607).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct Asn(u32);

impl Asn {
    /// The plain number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Asn {
    type Error = Invalid;
    fn try_from(value: i64) -> Result<Self, Invalid> {
        let asn = u32::try_from(value).ok().filter(|asn| *asn > 0);
        asn.map(Self).ok_or_else(|| Invalid::new(value, "an AS number from 1 to 4294967295"))
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An EVPN route target as FRR's `route-target` takes it: `ASN:NN` or `IPv4:NN` (RFC 4360 §4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RouteTarget(String);

impl FromStr for RouteTarget {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(value, "a route target ASN:NN or IPv4:NN");
        let (left, right) = value.split_once(':').ok_or_else(invalid)?;
        let right = number(right).ok_or_else(invalid)?;
        // Two octets stay for the number behind an address or a four-octet AS (RFC 4360 §3.2, RFC 5668 §2).
        if let Ok(address) = left.parse::<std::net::Ipv4Addr>() {
            return u16::try_from(right).map(|nn| Self(format!("{address}:{nn}"))).map_err(|_| invalid());
        }
        let asn = number(left).filter(|asn| *asn > 0).ok_or_else(invalid)?;
        if asn > u32::from(u16::MAX) && right > u32::from(u16::MAX) {
            return Err(invalid());
        }
        Ok(Self(format!("{asn}:{right}")))
    }
}

impl TryFrom<String> for RouteTarget {
    type Error = Invalid;
    fn try_from(value: String) -> Result<Self, Invalid> {
        value.parse()
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What `set community` of a route-map is given: one or more communities, `additive` behind them.
///
/// Kept in the order and spelling in which FRR prints it back, so that a reload sees no difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct Community {
    values: BTreeSet<u32>,
    additive: bool,
}

/// Names that FRR knows and prints (`community_str` in bgpd; IANA "Well-known Communities").
const WELL_KNOWN: [(&str, u32); 11] = [
    ("graceful-shutdown", 0xFFFF_0000),
    ("accept-own", 0xFFFF_0001),
    ("route-filter-translated-v4", 0xFFFF_0002),
    ("route-filter-v4", 0xFFFF_0003),
    ("route-filter-translated-v6", 0xFFFF_0004),
    ("route-filter-v6", 0xFFFF_0005),
    ("llgr-stale", 0xFFFF_0006),
    ("no-llgr", 0xFFFF_0007),
    ("accept-own-nexthop", 0xFFFF_0008),
    ("blackhole", 0xFFFF_029A),
    ("no-export", 0xFFFF_FF01),
];
const WELL_KNOWN_LOCAL: [(&str, u32); 3] =
    [("no-advertise", 0xFFFF_FF02), ("local-AS", 0xFFFF_FF03), ("no-peer", 0xFFFF_FF04)];

fn well_known() -> impl Iterator<Item = (&'static str, u32)> {
    WELL_KNOWN.into_iter().chain(WELL_KNOWN_LOCAL)
}

fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn community(word: &str) -> Option<u32> {
    if let Some((_, value)) = well_known().find(|(name, _)| *name == word) {
        return Some(value);
    }
    let (high, low) = word.split_once(':')?;
    let (high, low) = (u16::try_from(number(high)?).ok()?, u16::try_from(number(low)?).ok()?);
    // 0:0 is `internet` to FRR 8, which FRR 10 does not know: no spelling is right on both.
    Some(u32::from(high) << 16 | u32::from(low)).filter(|value| *value != 0)
}

impl FromStr for Community {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let expected = "communities AA:NN (0 to 65535 each) or well-known names, with one blank between them and 'additive' at most at the end";
        let invalid = || Invalid::new(value, expected);
        let (list, additive) = match value.strip_suffix(" additive") {
            Some(list) => (list, true),
            None => (value, false),
        };
        // One blank, never any other white space: a newline in here would become a line of configuration.
        let values = list.split(' ').map(|word| community(word).ok_or_else(invalid)).collect::<Result<_, _>>()?;
        Ok(Self { values, additive })
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.values.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match well_known().find(|(_, known)| known == value) {
                Some((name, _)) => f.write_str(name)?,
                None => write!(f, "{}:{}", value >> 16, value & 0xFFFF)?,
            }
        }
        if self.additive {
            f.write_str(" additive")?;
        }
        Ok(())
    }
}

impl From<Community> for String {
    fn from(value: Community) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_printed_as_frr_prints_them_back() {
        let printed = |text: &str| text.parse::<Community>().unwrap().to_string();
        assert_eq!(printed("65000:200 65000:100"), "65000:100 65000:200");
        assert_eq!(printed("65535:65281 additive"), "no-export additive");
        assert_eq!(printed("00065:007"), "65:7");
    }

    #[test]
    fn nothing_but_communities_reaches_the_configuration() {
        let bad = [
            "",
            " ",
            "65000:100\n!",
            "65000:100\nrouter bgp 1",
            "65000:100\r",
            "65000:70000",
            "no router bgp",
            "65000",
            "65000:1  65000:2",
            "additive",
            "65000:1 additive additive",
            "-1:1",
            "+1:1",
            "65000:1\t65000:2",
        ];
        for text in bad {
            assert!(text.parse::<Community>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_route_target_has_the_width_of_its_type() {
        for good in ["64497:100", "192.0.2.1:7", "4200000000:65535", "64497:4294967295"] {
            assert_eq!(good.parse::<RouteTarget>().unwrap().to_string(), good);
        }
        for bad in ["", "64497", "64497:", "4200000000:65536", "192.0.2.1:65536", "a:1", "0:1", "1:1\n"] {
            assert!(bad.parse::<RouteTarget>().is_err(), "{bad:?}");
        }
    }
}
