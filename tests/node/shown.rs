//! What FRR, the kernel and the router show, as the metrics of it are named.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::Node;

/// Samples by name and labels.
pub(super) type Shown = BTreeMap<String, f64>;

pub(super) fn routes_of_frr(node: &Node) -> Shown {
    let mut shown = Shown::new();
    for vrf in ["default", "vr-mine", "vr.blue", "vr.red"] {
        for (family, ip) in [("ipv4", "ip"), ("ipv6", "ipv6")] {
            let summary = node.json(&format!("vtysh -c 'show {ip} route vrf {vrf} summary json'"));
            for protocol in summary["routes"].as_array().unwrap() {
                let labels = format!("{{vrf=\"{vrf}\",family=\"{family}\",protocol={}}}", protocol["type"]);
                shown.insert(format!("frr_routes{labels}"), protocol["rib"].as_f64().unwrap());
                shown.insert(format!("frr_fib_routes{labels}"), protocol["fib"].as_f64().unwrap());
            }
        }
    }
    shown
}

pub(super) fn sessions(node: &Node) -> Shown {
    let all = node.json("vtysh -c 'show bgp vrf all summary json'");
    let mut shown = Shown::new();
    for (vrf, families) in all.as_object().unwrap() {
        for (family, of_family) in families.as_object().unwrap() {
            for (name, peer) in of_family["peers"].as_object().into_iter().flatten() {
                let number = |key: &str| peer[key].as_f64().unwrap_or_default();
                let session = format!("{{vrf=\"{vrf}\",neighbor=\"{name}\"}}");
                let prefixes = format!("{{vrf=\"{vrf}\",neighbor=\"{name}\",family=\"{family}\"}}");
                let state = state(&peer["state"]);
                // Of a session that is not up it is how long it is down.
                let uptime = if state == 6.0 { number("peerUptimeMsec") / 1000.0 } else { 0.0 };
                for (metric, labels, value) in [
                    ("frr_bgp_prefixes_received", &prefixes, number("pfxRcd")),
                    ("frr_bgp_prefixes_sent", &prefixes, number("pfxSnt")),
                    ("frr_bgp_messages_received_total", &session, number("msgRcvd")),
                    ("frr_bgp_messages_sent_total", &session, number("msgSent")),
                    ("frr_bgp_state", &session, state),
                    ("frr_bgp_uptime_seconds", &session, uptime),
                ] {
                    shown.insert(format!("{metric}{labels}"), value);
                }
            }
        }
    }
    shown
}

fn state(words: &Value) -> f64 {
    // Of a session that goes down, for a moment.
    let words = if words == "Clearing" { "Idle" } else { words.as_str().unwrap() };
    let states = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];
    let index = states.iter().position(|state| words == *state).unwrap_or_else(|| panic!("{words}"));
    f64::from(u8::try_from(index).unwrap() + 1)
}

pub(super) fn vnis(node: &Node) -> Shown {
    let vnis = node.json("vtysh -c 'show vrf vni json'");
    let shown = vnis["vrfs"].as_array().unwrap().iter().map(|vni| {
        let name = format!("frr_vni_up{{vrf={},vni=\"{}\"}}", vni["vrf"], vni["vni"]);
        (name, f64::from(vni["state"] == "Up"))
    });
    shown.collect()
}

pub(super) fn routes_of_the_kernel(node: &Node) -> Shown {
    let mut shown = Shown::new();
    for vrf in ["default", "vr.blue", "vr.red"] {
        let table = match vrf {
            "default" => "254".to_owned(),
            _ => node.ok(&format!("ip -d -j link show dev {vrf} | jq -r '.[0].linkinfo.info_data.table'")),
        };
        for (family, flag) in [("ipv4", "-4"), ("ipv6", "-6")] {
            for protocol in ["bgp", "static", "kernel"] {
                let count =
                    format!("ip {flag} route show table {} proto {protocol} | grep -vc nexthop || true", table.trim());
                let sample = format!("kernel_routes{{vrf=\"{vrf}\",family=\"{family}\",protocol=\"{protocol}\"}}");
                shown.insert(sample, node.ok(&count).trim().parse().unwrap());
            }
        }
    }
    shown
}

pub(super) fn neighbors(node: &Node) -> Shown {
    let mut shown = Shown::new();
    for (family, flag) in [("ipv4", "-4"), ("ipv6", "-6")] {
        let all = node.json(&format!("ip {flag} -j neigh show nud all"));
        for state in ["reachable", "stale", "noarp", "permanent"] {
            let upper = state.to_uppercase();
            let count = all.as_array().unwrap().iter().filter(|entry| entry["state"][0] == upper.as_str()).count();
            shown.insert(format!("kernel_neighbors{{family=\"{family}\",state=\"{state}\"}}"), count as f64);
        }
    }
    shown
}

pub(super) fn router(node: &Node) -> Shown {
    let counters = node.json("/labbin/network-operator counters --all --output json");
    let shown = counters.as_array().unwrap().iter().map(|counter| {
        let fib = counter["fib"].as_str().unwrap_or_default();
        let labels = format!("verdict={},reason={},fib=\"{fib}\"", counter["verdict"], counter["reason"]);
        (format!("bpf_packets_total{{{labels}}}"), counter["packets"].as_f64().unwrap())
    });
    let shown: Shown = shown.collect();
    assert!(shown.values().sum::<f64>() > 0.0, "{shown:#?}");
    shown
}
