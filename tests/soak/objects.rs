//! The objects of the long tests: small ones, because it is their coming and going that counts.

use std::collections::BTreeMap;

/// Which address families an object has routes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    V4,
    Both,
}

/// What is wanted of a VRF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrf {
    pub vni: u32,
    pub families: Families,
    /// Prefixes beside the first.
    pub more_prefixes: usize,
    pub mtu: u32,
}

/// VRFs by name.
pub type Vrfs = BTreeMap<&'static str, Vrf>;

impl Vrf {
    /// One without anything special.
    pub fn new(vni: u32, families: Families) -> Self {
        Self { vni, families, more_prefixes: 0, mtu: 9000 }
    }
}

/// The manifests. Without a VRF they are an empty list: a folder without a file would be lost input.
pub fn manifests(vrfs: &Vrfs) -> String {
    if vrfs.is_empty() {
        return "apiVersion: v1\nkind: List\nitems: []\n".to_owned();
    }
    vrfs.iter().map(|(name, vrf)| object(name, vrf)).collect()
}

/// The operator file. Blue has in it what the lab's has for it.
pub fn operator_file(vrfs: &Vrfs) -> String {
    let vnis: String = vrfs.iter().map(|(name, vrf)| format!("  {name}: {}\n", vrf.vni)).collect();
    format!("bpf: {{notrack: false}}\nvrfConfig:\n  blue: {{vni: 100, rt: '64497:100'}}\nvnimap:\n{vnis}")
}

fn object(name: &str, vrf: &Vrf) -> String {
    let Vrf { vni, families, more_prefixes, mtu } = vrf;
    let list = |net: &str, v6: &str| {
        let mut items: Vec<String> = (0..=*more_prefixes).map(|n| format!("{net}.{n}.0/24")).collect();
        if *families == Families::Both {
            items.push(format!("{v6}:{vni}::/48"));
        }
        items.iter().map(|cidr| format!("  - {{cidr: '{cidr}', action: permit}}\n")).collect::<String>()
    };
    format!(
        "---\napiVersion: network.schiff.telekom.de/v1alpha1\nkind: VRFRouteConfiguration\nmetadata: {{name: {name}}}\nspec:\n  vrf: {name}\n  seq: 10\n  mtu: {mtu}\n  import:\n{}  export:\n{}",
        list("10.1", "2001:db8"),
        list("10.2", "2001:db8")
    )
}
