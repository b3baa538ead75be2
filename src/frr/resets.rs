//! Which BGP sessions a change of lines ends or resets. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::compare::Difference;
use super::config::{Config, Line};
use crate::link::{LinkPlan, LinkRole, OwnedName};
use crate::model::VrfName;

/// A BGP session, as bgpd has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Session {
    /// Interface name of the VRF, or `default`.
    pub vrf: String,
    /// The neighbor, as the configuration names it.
    pub neighbor: String,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in VRF {}", self.neighbor, self.vrf)
    }
}

/// What resets the session of a neighbor, be it given or taken (`peer_change_reset` in `peer_flag_action_list` and
/// `peer_af_flag_action_list`, and what sends CEASE itself, in bgpd/bgpd.c of FRR 8.4 and 10.3). All else is sent anew within the
/// session, or counts from the next one on.
const RESET: [&str; 22] = [
    "accept-own",
    "activate",
    "addpath-tx-all-paths",
    "addpath-tx-bestpath-per-AS",
    "capability",
    "disable-addpath-rx",
    "disable-connected-check",
    "ebgp-multihop",
    "extended-optional-parameters",
    "interface",
    "local-as",
    "passive",
    "password",
    "peer-group",
    "port",
    "remote-as",
    "route-reflector-client",
    "route-server-client",
    "shutdown",
    "soo",
    "ttl-security",
    "update-source",
];

/// The sessions of what runs that end or are reset when these lines are given and taken, and these links go. A session between
/// two VRFs of the node is one at each of its ends.
pub fn resets(running: &Config, lines: &Difference, links: &LinkPlan) -> BTreeSet<Session> {
    let neighbors = Neighbors::of(running);
    let mut found = BTreeSet::new();
    for line in &lines.missing {
        found.extend(neighbors.hit(line, Way::Given));
    }
    for line in &lines.extra {
        found.extend(neighbors.hit(line, Way::Taken));
    }
    found.extend(links.ops().filter_map(|op| op.deletes(LinkRole::VethVrf)).flat_map(|vrf| ends(&vrf)));
    let others: Vec<Session> = found.iter().filter_map(other_end).collect();
    found.extend(others);
    found.retain(|session| neighbors.sessions.contains(session));
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Given,
    Taken,
}

/// `default`, or the VRF, of a line that opens an instance.
fn instance(line: &str) -> Option<&str> {
    match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["router", "bgp", _] => Some("default"),
        ["router", "bgp", _, "vrf", vrf] => Some(vrf),
        _ => None,
    }
}

#[derive(Debug, Default)]
struct Neighbors {
    sessions: BTreeSet<Session>,
    /// Who is in which peer-group.
    members: BTreeMap<Session, BTreeSet<Session>>,
}

impl Neighbors {
    fn of(running: &Config) -> Self {
        let mut neighbors = Self::default();
        let mut groups = BTreeSet::new();
        for line in running.lines().iter().filter(|line| line.blocks.len() == 1) {
            let Some(vrf) = line.blocks.first().and_then(|block| instance(block)) else { continue };
            let of = |name: &str| Session { vrf: vrf.to_owned(), neighbor: name.to_owned() };
            let words: Vec<&str> = line.text.split(' ').collect();
            match words.as_slice() {
                ["neighbor", name, "peer-group"] => drop(groups.insert(of(name))),
                ["neighbor", name, rest @ ..] => {
                    if let [.., "peer-group", group] = rest {
                        neighbors.members.entry(of(group)).or_default().insert(of(name));
                    }
                    if let ["remote-as" | "interface" | "peer-group", ..] = rest {
                        neighbors.sessions.insert(of(name));
                    }
                }
                _ => {}
            }
        }
        // A group has no session of its own.
        neighbors.sessions.retain(|session| !groups.contains(session));
        neighbors
    }

    fn hit(&self, line: &Line, way: Way) -> BTreeSet<Session> {
        let all = |vrf: &str| self.sessions.iter().filter(|session| session.vrf == vrf).cloned().collect();
        let Some(outermost) = line.blocks.first() else {
            return instance(&line.text).filter(|_| way == Way::Taken).map(all).unwrap_or_default();
        };
        let Some(vrf) = instance(outermost) else { return BTreeSet::new() };
        let words: Vec<&str> = line.text.split(' ').skip_while(|word| *word == "no").collect();
        match words.as_slice() {
            ["bgp", "router-id" | "cluster-id" | "confederation", ..] if line.blocks.len() == 1 => all(vrf),
            ["neighbor", name, what, ..] if RESET.contains(what) => {
                let named = Session { vrf: vrf.to_owned(), neighbor: (*name).to_owned() };
                self.members.get(&named).cloned().unwrap_or_else(|| BTreeSet::from([named]))
            }
            _ => BTreeSet::new(),
        }
    }
}

/// Both ends of the session between a VRF and the default one.
fn ends(vrf: &VrfName) -> [Session; 2] {
    let name = |role: LinkRole| role.name(vrf).to_string();
    [
        Session { vrf: "default".to_owned(), neighbor: name(LinkRole::VethDefault) },
        Session { vrf: name(LinkRole::Vrf), neighbor: name(LinkRole::VethVrf) },
    ]
}

fn other_end(session: &Session) -> Option<Session> {
    let vrf = OwnedName::recognise(&session.neighbor)?.vrf;
    let [default, own] = ends(&vrf);
    if *session == default { Some(own) } else { (*session == own).then_some(default) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "router bgp 1
 neighbor 192.0.2.1 remote-as 2
 neighbor dv.a interface remote-as internal
 neighbor dv.b interface remote-as internal
 address-family ipv4 unicast
  neighbor dv.a route-map rm_a_import in
 exit-address-family
exit
router bgp 1 vrf vr.a
 bgp router-id 192.0.2.9
 neighbor vd.a interface remote-as internal
exit
router bgp 1 vrf vr.b
 neighbor vd.b interface remote-as internal
exit
";

    /// The sessions that are reset where the running text becomes another one.
    fn told(change: impl Fn(&str) -> String) -> Vec<String> {
        let (running, wanted) = (Config::parse(RUNNING), Config::parse(&change(RUNNING)));
        let lines = Difference::between(&wanted, &running);
        assert!(!lines.is_empty());
        resets(&running, &lines, &LinkPlan::default()).iter().map(ToString::to_string).collect()
    }

    const BOTH: [&str; 2] = ["dv.a in VRF default", "vd.a in VRF vr.a"];

    #[test]
    fn a_session_ends_at_both_ends_when_either_is_taken_out() {
        assert_eq!(told(|text| text.replace(" neighbor dv.a interface remote-as internal\n", "")), BOTH);
        let without = |text: &str| {
            text.replace(
                "router bgp 1 vrf vr.a\n bgp router-id 192.0.2.9\n neighbor vd.a interface remote-as internal\nexit\n",
                "",
            )
        };
        assert_eq!(told(without), BOTH);
    }

    #[test]
    fn policy_resets_nothing_and_an_address_family_does() {
        let family = "address-family ipv4 unicast\n";
        let policy = |text: &str| text.replace("rm_a_import in", "rm_a_import2 in");
        assert_eq!(told(policy), Vec::<String>::new());
        let soft =
            |text: &str| text.replace(family, &format!("{family}  neighbor dv.a soft-reconfiguration inbound\n"));
        assert_eq!(told(soft), Vec::<String>::new());
        let six = format!("address-family ipv6 unicast\n  neighbor dv.a activate\n exit-address-family\n {family}");
        assert_eq!(told(|text| text.replace(family, &six)), BOTH);
    }

    #[test]
    fn another_router_id_resets_its_whole_instance_and_a_new_neighbor_nothing() {
        assert_eq!(told(|text| text.replace("router-id 192.0.2.9", "router-id 192.0.2.8")), BOTH);
        let new = |text: &str| {
            text.replacen(
                "exit\n",
                "exit\nrouter bgp 1 vrf vr.c\n neighbor vd.c interface remote-as internal\nexit\n",
                1,
            )
        };
        assert_eq!(told(new), Vec::<String>::new());
        let group = |text: &str| {
            let members = " neighbor G peer-group\n neighbor 192.0.2.1 peer-group G\n neighbor 192.0.2.1 remote-as 2\n";
            text.replace(" neighbor 192.0.2.1 remote-as 2\n", members)
        };
        let running = Config::parse(&group(RUNNING));
        let wanted = Config::parse(&group(RUNNING).replace("G peer-group\n", "G peer-group\n neighbor G password x\n"));
        let told = resets(&running, &Difference::between(&wanted, &running), &LinkPlan::default());
        assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1 in VRF default"]);
        let leaf = |text: &str| text.replace("192.0.2.1 remote-as 2", "192.0.2.1 remote-as 3");
        assert_eq!(self::told(leaf), ["192.0.2.1 in VRF default"]);
    }
}
