//! The names of the links that we make, and how they are recognised.

use crate::model::{IfName, VrfName};

/// The mark on links of ours (IFLA_IFALIAS).
pub const MARK: &str = "network-operator";

/// What a link of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkRole {
    /// `vr.V`, the VRF.
    Vrf,
    /// `br.V`, the bridge that carries the L3 VNI.
    Bridge,
    /// `vx.V`, the VXLAN.
    Vxlan,
    /// `vd.V`, the end of the veth pair in the VRF.
    VethVrf,
    /// `dv.V`, the end of the veth pair in the default VRF.
    VethDefault,
}

impl LinkRole {
    /// All roles, masters before their ports.
    pub const ALL: [Self; 5] = [Self::Vrf, Self::Bridge, Self::Vxlan, Self::VethVrf, Self::VethDefault];

    fn prefix(self) -> &'static str {
        match self {
            Self::Vrf => "vr.",
            Self::Bridge => "br.",
            Self::Vxlan => "vx.",
            Self::VethVrf => "vd.",
            Self::VethDefault => "dv.",
        }
    }

    /// The name of this link of a VRF.
    pub fn name(self, vrf: &VrfName) -> IfName {
        // Three characters and at most twelve of an interface name's alphabet are an interface name.
        match format!("{}{vrf}", self.prefix()).parse() {
            Ok(name) => name,
            Err(_) => unreachable!("a VRF name fits an interface name"),
        }
    }
}

/// A name that we generate, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedName {
    /// What the link is for.
    pub role: LinkRole,
    /// Whose it is.
    pub vrf: VrfName,
}

impl OwnedName {
    /// Takes a link's name apart; `None` for a name that we never generate.
    pub fn recognise(name: &str) -> Option<Self> {
        let role = LinkRole::ALL.into_iter().find(|role| name.starts_with(role.prefix()))?;
        let vrf = name.strip_prefix(role.prefix())?.parse().ok()?;
        Some(Self { role, vrf })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn foreign_names_are_not_recognised() {
        for name in ["vr-mine", "vr.", "br", "eth0", "vx.1234567890123", "vr.a b", "xvr.a"] {
            assert_eq!(OwnedName::recognise(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_generated_is_recognised(text in "[A-Za-z0-9_.-]{1,12}", role in 0usize..5) {
            let (vrf, role): (VrfName, _) = (text.parse().unwrap(), LinkRole::ALL[role]);
            prop_assert_eq!(OwnedName::recognise(role.name(&vrf).as_str()), Some(OwnedName { role, vrf }));
        }
    }
}
