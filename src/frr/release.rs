//! Takes what belongs to VRFs that go out of FRR, ahead of the reload that would.

use std::collections::BTreeSet;

use super::name;
use super::running::{RunningError, prepare, sessions};
use super::vty::Vty;
use crate::model::VrfName;

/// Takes neighbors, route-maps and prefix-lists of VRFs that go out of every daemon that shows them. A VRF goes when FRR
/// has a veth neighbor of it that the new `text` has not; what of it is in the text stays.
///
/// Neighbors, because `no router bgp … vrf …` leaves the router advertisements of an unnumbered neighbor on, and zebra
/// 10.3 goes on sending them on a link that has been deleted: it reads freed memory and dies (`process_rtadv`,
/// FRR #22881). `no neighbor … interface` turns them off.
/// The rest, because frr-reload.py starts a process for each line that goes: minutes, for a VRF with a long list.
///
/// # Errors
/// A daemon does not answer. One that refuses leaves the work to the reload: it says why at debug level.
pub async fn release_vrfs(vty: &Vty, text: &str) -> Result<(), RunningError> {
    let stays: BTreeSet<VrfName> = text.lines().filter_map(veth_neighbor).map(|(_, vrf)| vrf).collect();
    let running = vty.ask("bgpd", "show running-config").await?;
    let seen: BTreeSet<VrfName> = running.lines().filter_map(veth_neighbor).map(|(_, vrf)| vrf).collect();
    let leaving: Vec<VrfName> = seen.difference(&stays).cloned().collect();
    if leaving.is_empty() {
        return Ok(());
    }
    for mut session in sessions(vty).await? {
        let running = session.ask("show running-config").await?;
        for commands in removals(&running, &leaving, text) {
            prepare(&mut session, &commands).await?;
        }
    }
    Ok(())
}

/// Interface and VRF of an unnumbered neighbor with a name of ours.
fn veth_neighbor(line: &str) -> Option<(&str, VrfName)> {
    let mut words = line.split_ascii_whitespace();
    let ["neighbor", interface, "interface"] = [words.next()?, words.next()?, words.next()?] else { return None };
    let vrf = interface.strip_prefix("vd.").or_else(|| interface.strip_prefix("dv."))?;
    Some((interface, vrf.parse().ok()?))
}

/// Groups of commands, of which each can be refused alone. Neighbors go first: what they filter by goes behind them.
fn removals(running: &str, vrfs: &[VrfName], text: &str) -> Vec<Vec<String>> {
    let kept: BTreeSet<[&str; 2]> = text.lines().filter_map(policy).collect();
    let (mut neighbors, mut policies) = (Vec::new(), Vec::new());
    let mut instance = None;
    let mut seen = BTreeSet::new();
    for line in running.lines() {
        match (line, instance) {
            _ if line.starts_with("router bgp ") => instance = Some(line),
            (_, Some(instance)) if line.starts_with(' ') => {
                if let Some((neighbor, _)) = veth_neighbor(line).filter(|(_, vrf)| vrfs.contains(vrf)) {
                    neighbors.push(vec![instance.to_owned(), format!("no neighbor {neighbor} interface")]);
                }
            }
            ("!", _) => {}
            _ => instance = None,
        }
        let Some([kind, name]) = policy(line).filter(|found| !kept.contains(found)) else { continue };
        let ours = |vrf| {
            if kind == "route-map" { name::is_route_map_of(name, vrf) } else { name::is_prefix_list_of(name, vrf) }
        };
        if vrfs.iter().any(ours) && seen.insert([kind, name]) {
            policies.push(vec![format!("no {kind} {name}")]);
        }
    }
    // A route-map before the lists that it matches.
    policies.sort_by_key(|commands| commands.iter().all(|command| !command.starts_with("no route-map")));
    neighbors.into_iter().chain(policies).collect()
}

/// Kind and name of the route-map or prefix-list that a line is about.
fn policy(line: &str) -> Option<[&str; 2]> {
    let mut words = line.split(' ');
    match (words.next()?, words.next()?) {
        ("route-map", name) => Some(["route-map", name]),
        ("ip", "prefix-list") => Some(["ip prefix-list", words.next()?]),
        ("ipv6", "prefix-list") => Some(["ipv6 prefix-list", words.next()?]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "!
router bgp 64510
 neighbor 192.0.2.9 remote-as 1
 neighbor dv.a interface remote-as internal
 neighbor dv.b interface remote-as internal
 !
 address-family ipv4 unicast
  neighbor dv.a route-map rm_a_import in
 exit-address-family
exit
!
router bgp 64510 vrf vr.a
 neighbor vd.a interface remote-as internal
 !
 address-family ipv4 unicast
  neighbor vd.a route-map rm_a_export in
 exit-address-family
exit
!
interface eth0
 ip address 192.0.2.1/24
exit
!
ip prefix-list pl_a_import_10 seq 1 permit 203.0.113.0/24
ip prefix-list pl_a_import_10 seq 2 permit 203.0.114.0/24
ipv6 prefix-list pl_a_import_10 seq 3 permit 2001:db8::/32
ip prefix-list pl_b_import_10 seq 1 permit 203.0.113.0/24
ip prefix-list site seq 1 permit any
!
route-map rm_a_import permit 11
 match ip address prefix-list pl_a_import_10
exit
!
route-map rm_a_export deny 65535
exit
!
route-map rm_a_exports permit 1
exit
!";

    #[test]
    fn what_belongs_to_the_vrf_goes_in_order_and_what_the_text_keeps_stays() {
        let vrfs = ["a".parse().unwrap()];
        let groups = removals(RUNNING, &vrfs, "route-map rm_a_export deny 65535\nexit\n");
        let plain: Vec<String> = groups.iter().map(|group| group.join(" / ")).collect();
        assert_eq!(
            plain,
            [
                "router bgp 64510 / no neighbor dv.a interface",
                "router bgp 64510 vrf vr.a / no neighbor vd.a interface",
                "no route-map rm_a_import",
                "no ip prefix-list pl_a_import_10",
                "no ipv6 prefix-list pl_a_import_10",
            ]
        );
    }

    #[test]
    fn nothing_of_anybody_else_goes() {
        assert!(removals(RUNNING, &["c".parse().unwrap()], "").is_empty());
        assert!(removals("", &["a".parse().unwrap()], "").is_empty());
    }
}
