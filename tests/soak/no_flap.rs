//! Whatever happens to one VRF, the sessions of another and of the fabric do not notice.

use std::time::{Duration, Instant};

use crate::lab::{Fabric, Image, MANIFESTS, Node, Sessions, Spelling, lab_file, sessions};
use crate::objects::{Families, Vrf, Vrfs};
use crate::progress::{Mean, Progress, scaled};
use crate::rig::{AgentLog, OnError, WINDOW, links_of, start};

const ROUNDS: usize = 20;
const IDLE_RUNS: usize = 10;

#[test]
fn no_session_resets_on_frr_8_while_another_vrf_comes_changes_and_goes() {
    no_flap(Image::Bookworm);
}

#[test]
fn no_session_resets_on_frr_10_while_another_vrf_comes_changes_and_goes() {
    no_flap(Image::Trixie);
}

/// The sessions that must stay, with the VRF of each.
const SESSIONS: [(&str, &str); 3] = [("default", "198.51.100.2"), ("default", "dv.blue"), ("vr.blue", "vd.blue")];

struct Rig {
    fabric: Fabric,
    log: AgentLog,
    sessions: Sessions,
    daemons: String,
    runs: Mean,
}

impl Rig {
    fn boot(image: Image) -> Self {
        let fabric = Fabric::boot(image, Spelling::Plain);
        let node = &fabric.node;
        node.write(&format!("{MANIFESTS}/blue.yaml"), lab_file("manifests/blue.yaml"));
        let mut log = AgentLog::of(node, OnError::Fail);
        node.take_agent();
        node.ok(&start(WINDOW));
        log.wait(node, &[" applied "]);
        fabric.wait_sessions(&["blue"]);
        node.wait("the session to the leaf", Duration::from_secs(60), |node| {
            let leaf = node.json("vtysh -c 'show bgp neighbors 198.51.100.2 json'");
            let state = leaf["198.51.100.2"]["bgpState"].to_string();
            if state == "\"Established\"" { Ok(()) } else { Err(state) }
        });
        let (sessions, daemons) = (sessions(node, &SESSIONS), node.look().daemons);
        Self { fabric, log, sessions, daemons, runs: Mean::default() }
    }

    /// A run that `text` ends, with so many reloads, and no session notices.
    fn run(&mut self, what: &str, text: &str, reloads: usize, vrfs: &Vrfs, change: impl FnOnce(&Node)) {
        let node = &self.fabric.node;
        self.log.skip(node);
        let begin = Instant::now();
        change(node);
        self.log.wait(node, &[text]);
        self.runs.add(begin.elapsed());
        let look = node.look();
        assert_eq!(look.daemons, self.daemons, "bgpd and zebra, {what}; {}", node.evidence());
        assert_eq!(look.reloads, reloads, "reloads, {what}; {}", self.log.tail());
        assert_eq!(look.links, links_of(vrfs.keys().copied().chain(["blue"])), "{what}");
        self.sessions.assert_not_reset(node, what);
    }

    fn change(&mut self, what: &str, vrfs: &Vrfs, change: impl FnOnce(&Node)) {
        self.run(what, " applied ", 1, vrfs, change);
    }
}

/// The other VRF of a round. The next one has another name, because it comes as this one goes.
fn other(round: usize) -> (&'static str, Vrf) {
    let families = if round % 4 < 2 { Families::V4 } else { Families::Both };
    if round.is_multiple_of(2) { ("green", Vrf::new(210, families)) } else { ("grey", Vrf::new(220, families)) }
}

fn no_flap(image: Image) {
    let mut rig = Rig::boot(image);
    let mut progress = Progress::new("no_flap", image, "rounds", scaled(ROUNDS));
    // Known from the beginning: blue's line in it stays as it is.
    rig.run("the operator file", "nothing to do", 0, &Vrfs::new(), |node| {
        node.set_operator_file(&[other(0), other(1)].into());
    });
    rig.runs = Mean::default();
    while progress.goes_on() {
        let round = progress.done();
        let (name, mut vrf) = other(round);
        let vrfs = Vrfs::from([(name, vrf.clone())]);
        rig.change(&format!("adding {name} in round {round}"), &vrfs, |node| node.set_objects(&vrfs));
        let what = format!("changing {name} in round {round}");
        if round % 3 == 2 {
            vrf.vni += 100;
            let known: Vrfs = [other(0), other(1), (name, vrf)].into();
            rig.change(&what, &vrfs, |node| node.set_operator_file(&known));
        } else {
            vrf.more_prefixes = 1;
            vrf.mtu = if round % 3 == 1 { 1500 } else { 9000 };
            let vrfs = Vrfs::from([(name, vrf)]);
            rig.change(&what, &vrfs, |node| node.set_objects(&vrfs));
        }
        progress.step(|| rig.runs.words());
        // In the middle and at the end the VRF goes alone; else as the next one comes.
        if !progress.goes_on() || round == ROUNDS / 2 {
            rig.change(&format!("removing {name} in round {round}"), &Vrfs::new(), |node| {
                node.set_objects(&Vrfs::new())
            });
        }
    }
    let runs = std::mem::take(&mut rig.runs).words();
    for _ in 0..scaled(IDLE_RUNS) {
        rig.run("a run without a change", "nothing to do", 0, &Vrfs::new(), |node| {
            node.ok("touch /opt/network-operator/config.yaml");
        });
    }
    rig.fabric.node.ok("kill $(cat /run/soak.pid)");
    let sessions = SESSIONS.map(|(_, name)| name).join(", ");
    progress.sum_up(&format!("{runs}, then {}; no session of {sessions} was reset", rig.runs.words()));
}
