//! Numbers with a range: VNI, sequence, MTU, routing table.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Declares a number that cannot hold a value outside of its range.
macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident($inner:ty), $min:expr, $max:expr, $expected:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $name($inner);

        impl $name {
            /// Smallest value.
            pub const MIN: Self = Self($min);
            /// Largest value.
            pub const MAX: Self = Self($max);

            /// The plain number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = Invalid;

            fn try_from(value: i64) -> Result<Self, Invalid> {
                <$inner>::try_from(value)
                    .ok()
                    .filter(|inner| ($min..=$max).contains(inner))
                    .map(Self)
                    .ok_or_else(|| Invalid::new(value, $expected))
            }
        }

        impl From<$name> for i64 {
            fn from(value: $name) -> i64 {
                i64::from(value.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

ranged! {
    /// A VXLAN network identifier (RFC 7348 §5): 24 bits, 0 is not used.
    Vni(u32), 1, 0xFF_FFFF, "a VNI from 1 to 16777215"
}

ranged! {
    /// `seq` of a `VRFRouteConfiguration`. Its route-map entry is `seq` + 1, because entry 1 denies
    /// what came from the fabric, and FRR's last entry is 65535.
    Seq(u16), 1, 65534, "a sequence number from 1 to 65534"
}

ranged! {
    /// An interface MTU in bytes (IFLA_MTU). 1280 is the least that carries IPv6 (RFC 8200 §5), and the
    /// veth peering runs over IPv6 link-local addresses; 65535 is the most a veth takes.
    Mtu(u32), 1280, 65535, "an MTU from 1280 to 65535 bytes"
}

ranged! {
    /// A kernel routing table (IFLA_VRF_TABLE). 0 is unspecified, 253 to 255 are default, main and local.
    RouteTable(u32), 1, u32::MAX, "a routing table from 1 to 4294967295"
}

impl Seq {
    /// The route-map entry that this object becomes.
    pub fn route_map_entry(self) -> u32 {
        u32::from(self.0) + 1
    }
}

impl Default for Mtu {
    fn default() -> Self {
        Self(9000)
    }
}

/// The tables that VRFs may be given, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTables {
    start: RouteTable,
    end: RouteTable,
}

impl RouteTables {
    /// Refuses an empty range and one that holds the kernel's own tables 253 to 255.
    pub fn new(start: RouteTable, end: RouteTable) -> Result<Self, Invalid> {
        let reserved = start.get() <= 255 && end.get() >= 253;
        if start > end || reserved {
            return Err(Invalid::new(
                format!("{start}-{end}"),
                "a range of routing tables with start <= end and without 253, 254 and 255",
            ));
        }
        Ok(Self { start, end })
    }

    /// First table of the range.
    pub fn start(self) -> RouteTable {
        self.start
    }

    /// Last table of the range.
    pub fn end(self) -> RouteTable {
        self.end
    }

    /// Whether the table may be given to a VRF.
    pub fn contains(self, table: RouteTable) -> bool {
        (self.start..=self.end).contains(&table)
    }

    /// All tables, lowest first.
    pub fn iter(self) -> impl Iterator<Item = RouteTable> {
        (self.start.get()..=self.end.get()).map(RouteTable)
    }
}

impl Default for RouteTables {
    fn default() -> Self {
        Self { start: RouteTable(50), end: RouteTable(252) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vni_of_zero_or_above_24_bits_is_refused() {
        for bad in [-1, 0, 16_777_216, i64::MAX] {
            let error = Vni::try_from(bad).unwrap_err();
            assert!(error.to_string().contains("1 to 16777215"), "{error}");
        }
        assert_eq!(Vni::try_from(16_777_215).unwrap(), Vni::MAX);
    }

    #[test]
    fn the_last_seq_is_the_last_route_map_entry() {
        assert_eq!(Seq::MAX.route_map_entry(), 65535);
        assert!(Seq::try_from(65535).is_err());
        assert!(Seq::try_from(0).is_err());
    }

    #[test]
    fn a_table_range_never_holds_the_kernels_own_tables() {
        let table = |n: i64| RouteTable::try_from(n).unwrap();
        assert!(RouteTables::new(table(50), table(253)).is_err());
        assert!(RouteTables::new(table(254), table(300)).is_err());
        assert!(RouteTables::new(table(60), table(50)).is_err());
        let range = RouteTables::new(table(256), table(257)).unwrap();
        assert_eq!(range.iter().collect::<Vec<_>>(), [table(256), table(257)]);
    }
}
