//! Every attribute of the links of one VRF, as `ip -d -j` shows them.

use serde_json::Value;

/// What the links of a VRF must look like on this node.
pub struct Expected<'a> {
    pub vrf: &'a str,
    pub vni: u32,
    /// MTU of the veth pair.
    pub mtu: u32,
    /// MTU of bridge and VXLAN.
    pub overlay_mtu: u32,
    /// VTEP.
    pub local: &'a str,
    /// MAC of bridge and VXLAN.
    pub mac: &'a str,
    pub tables: std::ops::RangeInclusive<u64>,
}

/// Asserts all of them; `sh` runs a command where the links are.
pub fn assert_attributes(sh: &dyn Fn(&str) -> String, expected: &Expected<'_>) {
    let Expected { vrf, vni, mtu, overlay_mtu, local, mac, tables } = expected;
    let [vr, br, vx, vd, dv] = ["vr", "br", "vx", "vd", "dv"].map(|prefix| link(sh, &format!("{prefix}.{vrf}")));
    for one in [&vr, &br, &vx, &vd, &dv] {
        assert_eq!(one["ifalias"], "network-operator", "{one}");
        assert!(one["flags"].as_array().unwrap().contains(&"UP".into()), "{one}");
    }
    assert_eq!((&vr["linkinfo"]["info_kind"], &vr["master"]), (&"vrf".into(), &Value::Null), "{vr}");
    let table = vr["linkinfo"]["info_data"]["table"].as_u64().unwrap();
    assert!(tables.contains(&table), "{vr}");
    assert_eq!((&br["linkinfo"]["info_kind"], &br["master"]), (&"bridge".into(), &format!("vr.{vrf}").into()));
    let info = &vx["linkinfo"]["info_data"];
    assert_eq!(
        (&info["id"], &info["local"], &info["link"]),
        (&(*vni).into(), &(*local).into(), &"dum.underlay".into())
    );
    assert_eq!((&info["port"], &info["learning"]), (&4789.into(), &false.into()));
    assert_eq!(vx["master"], format!("br.{vrf}"));
    let port = &vx["linkinfo"]["info_slave_data"];
    assert_eq!(
        (&port["learning"], &port["hairpin"], &port["neigh_suppress"]),
        (&false.into(), &true.into(), &false.into())
    );
    for one in [&br, &vx] {
        assert_eq!(one["address"], *mac);
        assert_eq!((&one["mtu"], &one["inet6_addr_gen_mode"]), (&(*overlay_mtu).into(), &"none".into()));
        assert_eq!(one["addr_info"].as_array().unwrap().len(), 0, "{one}");
    }
    assert_eq!((&vd["master"], &dv["master"]), (&format!("vr.{vrf}").into(), &Value::Null));
    assert_eq!((&vd["link"], &dv["link"]), (&format!("dv.{vrf}").into(), &format!("vd.{vrf}").into()));
    for (one, letters) in [(&vd, "76:64"), (&dv, "64:76")] {
        assert_eq!(one["linkinfo"]["info_kind"], "veth");
        assert!(one["address"].as_str().unwrap().starts_with(&format!("02:{letters}:00:00:")), "{one}");
        assert_eq!((&one["mtu"], &one["inet6_addr_gen_mode"]), (&(*mtu).into(), &"eui64".into()));
        assert_eq!(one["addr_info"][0]["local"], eui64(one["address"].as_str().unwrap()), "{one}");
    }
}

fn link(sh: &dyn Fn(&str) -> String, name: &str) -> Value {
    let show = |what: &str| {
        let text = sh(&format!("ip -d -j {what} show dev {name}"));
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    };
    let mut link = show("link");
    link["addr_info"] = show("addr")["addr_info"].clone();
    link
}

/// The link-local address that a MAC gives (RFC 4291 appendix A).
fn eui64(mac: &str) -> String {
    let bytes: Vec<u16> = mac.split(':').map(|byte| u16::from_str_radix(byte, 16).unwrap()).collect();
    let pair = |high: u16, low: u16| high << 8 | low;
    let tail = [pair(bytes[0] ^ 2, bytes[1]), pair(bytes[2], 0xff), pair(0xfe, bytes[3]), pair(bytes[4], bytes[5])];
    std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, tail[0], tail[1], tail[2], tail[3]).to_string()
}
