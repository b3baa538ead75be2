//! What `plan` says is what then happens: operations on links and the eBPF router, lines of FRR, sessions that are reset.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::lab::random::Random;
use crate::lab::{Fabric, Image, Spelling};
use crate::objects::{Families, Vrf, Vrfs, manifests, operator_file};
use crate::progress::{Mean, Progress, scaled};
use crate::rig::{AgentLog, OBJECTS, OnError, replace, start};

const CHANGES: usize = 300;
const NAMES: [&str; 4] = ["ant", "bee", "cat", "dog"];
const OPERATOR_FILE: &str = "/opt/network-operator/config.yaml";
/// It takes in both files.
const WINDOW: &str = "500ms";

#[test]
fn frr_8_does_what_was_planned() {
    foretold(Image::Bookworm);
}

#[test]
fn frr_10_does_what_was_planned() {
    foretold(Image::Trixie);
}

/// A session by VRF and neighbor.
type Session = (String, String);

/// Links and the eBPF router, lines that FRR is given, lines that are taken out of it, each in words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    links: BTreeSet<String>,
    add: BTreeSet<String>,
    remove: BTreeSet<String>,
}

struct Rig {
    fabric: Fabric,
    log: AgentLog,
    random: Random,
    vrfs: Vrfs,
    /// The VRFs that the operator file knows: it keeps those that have gone.
    known: Vrfs,
}

impl Rig {
    fn boot(image: Image) -> Self {
        let fabric = Fabric::boot(image, Spelling::Plain);
        let mut log = AgentLog::of(&fabric.node, OnError::Fail);
        fabric.node.take_agent();
        fabric.node.set_objects(&Vrfs::new());
        fabric.node.ok(&start(WINDOW));
        log.wait(&fabric.node, &[" applied "]);
        Self { fabric, log, random: Random::seeded(), vrfs: Vrfs::new(), known: Vrfs::new() }
    }

    /// One or two VRFs come, change in one way or another, or go.
    fn change(&mut self) {
        for _ in 0..=self.random.below(2) {
            let name = NAMES[self.random.below(4) as usize];
            let vni = 300 + 10 * NAMES.iter().position(|known| *known == name).unwrap() as u32;
            let way = self.random.below(6);
            let Some(vrf) = self.vrfs.get_mut(name) else {
                let families = if way < 3 { Families::V4 } else { Families::Both };
                self.vrfs.insert(name, Vrf::new(vni, families));
                continue;
            };
            match way {
                0 => drop(self.vrfs.remove(name)),
                1 => vrf.vni = vni + (vrf.vni + 1) % 10,
                2 => vrf.mtu = if vrf.mtu == 9000 { 1500 } else { 9000 },
                3 => vrf.families = if vrf.families == Families::V4 { Families::Both } else { Families::V4 },
                _ => vrf.more_prefixes = (vrf.more_prefixes + 1) % 4,
            }
        }
        self.known.extend(self.vrfs.iter().map(|(name, vrf)| (*name, vrf.clone())));
    }

    /// What the plan says of the change, and the sessions that it names.
    fn planned(&self) -> (Done, BTreeSet<Session>) {
        let node = &self.fabric.node;
        node.ok(&format!(
            "{}\n{}",
            replace("/srv/next.yaml", &manifests(&self.vrfs)),
            replace("/srv/next-config.yaml", &operator_file(&self.known))
        ));
        let plan = "NODE_NAME=node-1 /lab/network-operator plan --config /srv/next-config.yaml -f /srv/next.yaml";
        let json = node.json(&format!("{plan} --output json"));
        let words = |key: &str| {
            let lines = json["frr"][key].as_array().unwrap().iter();
            lines.map(|line| line.as_str().unwrap().to_owned()).collect()
        };
        let text = node.ok(plan);
        // The eBPF router's operations come behind those of the links.
        let links = text.lines().take_while(|line| !line.starts_with("FRR:"));
        let links = links.filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect();
        let session = |session: &serde_json::Value| {
            let word = |key: &str| session[key].as_str().unwrap().to_owned();
            (word("vrf"), word("neighbor"))
        };
        let sessions = json["sessions"].as_array().unwrap().iter().map(session).collect();
        (Done { links, add: words("add"), remove: words("remove") }, sessions)
    }

    /// Carries it out; gives what the agent says that it did.
    fn carried_out(&mut self) -> Done {
        let node = &self.fabric.node;
        self.log.skip(node);
        node.ok(&format!("mv /srv/next-config.yaml {OPERATOR_FILE}; mv /srv/next.yaml {OBJECTS}"));
        let mut told = String::new();
        loop {
            // Looks at the node, which vtysh brings about, are none of it.
            let line = self.log.wait(node, &[" did ", "due=Change"]);
            match line.split_once(" did what=") {
                Some((_, what)) => told = what.to_owned(),
                None => break,
            }
        }
        let mut done = Done::default();
        for word in told.split("; ").filter(|word| !word.is_empty()) {
            if let Some(line) = word.strip_prefix("given to FRR: ") {
                done.add.insert(line.to_owned());
            } else if let Some(line) = word.strip_prefix("taken out of FRR: ") {
                done.remove.insert(line.to_owned());
            } else if word != "frr.conf" {
                done.links.insert(word.to_owned());
            }
        }
        done
    }

    /// The sessions that there are to be, all established, and how often each was dropped.
    fn sessions(&self) -> BTreeMap<Session, i64> {
        let node = &self.fabric.node;
        let mut wanted = vec![("default".to_owned(), "198.51.100.2".to_owned())];
        for vrf in self.vrfs.keys() {
            wanted.push(("default".to_owned(), format!("dv.{vrf}")));
            wanted.push((format!("vr.{vrf}"), format!("vd.{vrf}")));
        }
        let begin = Instant::now();
        loop {
            let all = node.json("vtysh -c 'show bgp vrf all neighbors json'");
            let seen = wanted.iter().filter_map(|session @ (vrf, name)| {
                let seen = &all[vrf][name];
                (seen["bgpState"] == "Established")
                    .then(|| (session.clone(), seen["connectionsDropped"].as_i64().unwrap()))
            });
            let seen: BTreeMap<Session, i64> = seen.collect();
            if seen.len() == wanted.len() {
                return seen;
            }
            assert!(begin.elapsed() < Duration::from_secs(120), "{seen:?} of {wanted:?}; {}", node.evidence());
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

fn foretold(image: Image) {
    let mut rig = Rig::boot(image);
    let mut progress = Progress::new("foretold", image, "changes", scaled(CHANGES));
    let (mut runs, mut lines, mut links, mut resets) = (Mean::default(), 0, 0, 0);
    println!("SOAK_SEED={} repeats the changes of FRR {}", rig.random.0, image.frr());
    let mut before = rig.sessions();
    while progress.goes_on() {
        rig.change();
        let (planned, foretold) = rig.planned();
        let begin = Instant::now();
        let done = rig.carried_out();
        runs.add(begin.elapsed());
        let what = format!("change {}: {:?}", progress.done(), rig.vrfs);
        assert_eq!(done, planned, "{what}");
        let after = rig.sessions();
        let lost = before.iter().filter(|(session, dropped)| after.get(*session).is_none_or(|now| now != *dropped));
        let lost: BTreeSet<Session> = lost.map(|(session, _)| session.clone()).collect();
        assert_eq!(lost, foretold, "sessions that were reset and those that were foretold, {what}: {planned:?}");
        lines += done.add.len() + done.remove.len();
        links += done.links.len();
        resets += lost.len();
        before = after;
        progress.step(|| runs.words());
    }
    rig.fabric.node.ok("kill $(cat /run/soak.pid)");
    progress.sum_up(&format!(
        "{}; {lines} lines of FRR, {links} link operations and {resets} resets of sessions were as planned, and nothing else happened",
        runs.words()
    ));
}
