//! What FRR says of itself, as samples.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Samples;
use super::catalogue::{
    BGP_MESSAGES_RECEIVED, BGP_MESSAGES_SENT, BGP_PREFIXES_RECEIVED, BGP_PREFIXES_SENT, BGP_STATE, BGP_UPTIME,
    FRR_FIB_ROUTES, FRR_ROUTES,
};

/// `show ip route vrf all summary`, as text: its JSON does not say which VRF is meant.
///
/// ```text
/// Route Source         Routes               FIB  (vrf default)
/// connected            2                    2
/// ------
/// Totals               2                    2
/// ```
pub(super) fn routes(family: &str, answer: &str, samples: &mut Samples) {
    let mut vrf = "";
    for line in answer.lines() {
        if let Some((_, rest)) = line.split_once("(vrf ") {
            vrf = rest.trim_end().trim_end_matches(')');
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[protocol, rib, fib] = words.as_slice() else { continue };
        if let (false, Ok(rib), Ok(fib)) = (protocol == "Totals", rib.parse(), fib.parse()) {
            samples.add(&FRR_ROUTES, &[vrf, family, protocol], rib);
            samples.add(&FRR_FIB_ROUTES, &[vrf, family, protocol], fib);
        }
    }
}

/// A neighbor in one address family (`show bgp vrf all summary json`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Peer {
    state: String,
    peer_uptime_msec: f64,
    pfx_rcd: f64,
    pfx_snt: f64,
    msg_rcvd: f64,
    msg_sent: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Family {
    peers: BTreeMap<String, Peer>,
}

/// BGP sessions of all instances.
///
/// # Errors
/// It is no such JSON.
pub(super) fn sessions(answer: &str, samples: &mut Samples) -> serde_json::Result<()> {
    let instances: BTreeMap<String, BTreeMap<String, Family>> = serde_json::from_str(answer)?;
    for (vrf, families) in &instances {
        // State and messages are those of the session, in each of its address families.
        let mut sessions: BTreeMap<&str, &Peer> = BTreeMap::new();
        for (family, Family { peers }) in families {
            for (name, peer) in peers {
                sessions.insert(name, peer);
                samples.add(&BGP_PREFIXES_RECEIVED, &[vrf, name, family], peer.pfx_rcd);
                samples.add(&BGP_PREFIXES_SENT, &[vrf, name, family], peer.pfx_snt);
            }
        }
        for (name, peer) in sessions {
            let state = state(&peer.state);
            let uptime = if state == ESTABLISHED { peer.peer_uptime_msec / 1000.0 } else { 0.0 };
            samples.add(&BGP_STATE, &[vrf, name], f64::from(state));
            samples.add(&BGP_UPTIME, &[vrf, name], uptime);
            samples.add(&BGP_MESSAGES_RECEIVED, &[vrf, name], peer.msg_rcvd);
            samples.add(&BGP_MESSAGES_SENT, &[vrf, name], peer.msg_sent);
        }
    }
    Ok(())
}

const ESTABLISHED: u8 = 6;

/// `bgpPeerState` of RFC 4273; 0 for `Idle (Admin)`, which somebody wants. What is none of them carries no routes either, as
/// `Idle (PfxCt)`, whose peer sent too many, and `Clearing`.
fn state(words: &str) -> u8 {
    match words {
        "Idle (Admin)" => 0,
        "Connect" => 2,
        "Active" => 3,
        "OpenSent" => 4,
        "OpenConfirm" => 5,
        "Established" => ESTABLISHED,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_those_of_their_vrf_and_totals_are_none() {
        let answer = "\nRoute Source         Routes               FIB  (vrf default)\n\
            connected            2                    2                    \n\
            ebgp                 4                    3                    \n------\n\
            Totals               6                    5                    \n\n\
            Route Source         Routes               FIB  (vrf vr.blue)\n\
            static               1                    0                    \n------\n\
            Totals               1                    0                    \n\n";
        let mut samples = Samples::default();
        routes("ipv4", answer, &mut samples);
        assert_eq!(samples.value(&FRR_ROUTES, &["default", "ipv4", "ebgp"]), Some(4.0));
        assert_eq!(samples.value(&FRR_FIB_ROUTES, &["default", "ipv4", "ebgp"]), Some(3.0));
        assert_eq!(samples.value(&FRR_FIB_ROUTES, &["vr.blue", "ipv4", "static"]), Some(0.0));
        assert_eq!(samples.value(&FRR_ROUTES, &["default", "ipv4", "Totals"]), None);
    }

    #[test]
    fn a_session_that_somebody_shut_is_told_from_one_that_fell() {
        let told = ["Idle (Admin)", "Idle", "Idle (PfxCt)", "Clearing", "Active", "Established"].map(state);
        assert_eq!(told, [0, 1, 1, 1, 3, 6]);
    }

    #[test]
    fn a_session_has_one_state_and_prefixes_by_family() {
        let answer = r#"{"default": {
            "ipv4Unicast": {"routerId": "192.0.2.1", "peers": {
                "swp1": {"state": "Established", "peerUptimeMsec": 4500, "pfxRcd": 3, "pfxSnt": 5, "msgRcvd": 9, "msgSent": 8},
                "swp2": {"state": "Idle (Admin)", "peerUptimeMsec": 90, "msgRcvd": 1, "msgSent": 2}}},
            "l2VpnEvpn": {"peers": {
                "swp1": {"state": "Established", "peerUptimeMsec": 4500, "pfxRcd": 7, "pfxSnt": 1, "msgRcvd": 9, "msgSent": 8}}}},
            "vr.blue": {}}"#;
        let mut samples = Samples::default();
        sessions(answer, &mut samples).unwrap();
        let of = |metric, neighbor| samples.value(metric, &["default", neighbor]);
        assert_eq!([of(&BGP_STATE, "swp1"), of(&BGP_STATE, "swp2")], [Some(6.0), Some(0.0)]);
        assert_eq!([of(&BGP_UPTIME, "swp1"), of(&BGP_UPTIME, "swp2")], [Some(4.5), Some(0.0)]);
        assert_eq!(of(&BGP_MESSAGES_RECEIVED, "swp1"), Some(9.0));
        assert_eq!(samples.value(&BGP_PREFIXES_RECEIVED, &["default", "swp1", "l2VpnEvpn"]), Some(7.0));
        assert!(sessions("% BGP instance not found", &mut samples).is_err());
    }
}
