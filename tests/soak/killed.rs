//! The agent is killed at any moment of its work: FRR keeps a configuration it can start with, and the next start ends it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::lab::random::Random;
use crate::lab::{Bridge, Foreign, Image, Node, Spelling, foreign};
use crate::objects::{Families, Vrf, Vrfs, manifests, operator_file};
use crate::progress::{Progress, scaled};
use crate::rig::{AgentLog, OBJECTS, OnError, WINDOW, links_of, replace, start};

const KILLS: usize = 100;
const OPERATOR_FILE: &str = "/opt/network-operator/config.yaml";

#[test]
fn frr_8_converges_after_100_kills_at_any_moment() {
    killed(Image::Bookworm);
}

#[test]
fn frr_10_converges_after_100_kills_at_any_moment() {
    killed(Image::Trixie);
}

/// What a run that is killed is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Prefix,
    Mtu,
    Vni,
    Remove,
}

impl Kind {
    /// In an order in which each has something to do.
    const ALL: [Self; 5] = [Self::Add, Self::Prefix, Self::Mtu, Self::Vni, Self::Remove];

    /// An addition, a change, a removal, and so on.
    fn of(round: usize, random: &mut Random) -> Self {
        match round % 3 {
            0 => Self::Add,
            1 => Self::ALL[1 + random.below(3) as usize],
            _ => Self::Remove,
        }
    }
}

const FIRST_VNI: u32 = 300;

/// The VRFs that there may be.
fn both(vni: u32, families: Families) -> [(&'static str, Vrf); 2] {
    [("ant", Vrf::new(vni, families)), ("bee", Vrf::new(201, families))]
}

struct Rig {
    node: Node,
    /// Removed behind the node.
    _bridge: Bridge,
    log: AgentLog,
    random: Random,
    before: Foreign,
    daemons: String,
    /// What is in FRR's folder while nothing is under way.
    folder: String,
    /// What is wanted now.
    vrfs: Vrfs,
    /// VNI of the first VRF. Each change of it takes one that was not there before.
    vni: u32,
    /// How long an undisturbed run of each kind takes.
    durations: [Duration; Kind::ALL.len()],
    /// The longest way back.
    longest: Duration,
    /// Kills that came when the work was done already.
    missed: usize,
}

/// What the agent says when it has done its work.
const DONE: [&str; 2] = [" applied ", "nothing to do"];
/// What this asks must be so when nothing is under way: no file beside FRR's, and none half-written anywhere.
const FOLDER: &str = "ls -A /etc/frr; find /etc /opt /var/lib -name '.network-operator-*'";
const PLAN: &str = "/lab/network-operator plan --node-name node-1 -f /etc/network-operator/manifests";
const KILL: &str = "agent=$(cat /run/soak.pid); kill -9 $agent; while kill -0 $agent 2>/dev/null; do sleep 0.05; done";
/// FRR runs, and would start again with what there is.
const SOUND: &str = "vtysh -C -f /etc/frr/frr.conf && state=$(systemctl show -p ActiveState --value frr); case $state in active|reloading) ;; *) echo $state; exit 1;; esac";

impl Rig {
    fn boot(image: Image) -> Self {
        let bridge = Bridge::new();
        let node = Node::of_the_lab(&bridge, image, Spelling::Plain);
        let before = foreign(&node);
        node.set_objects(&Vrfs::new());
        node.set_operator_file(&both(FIRST_VNI, Families::V4).into());
        let mut log = AgentLog::of(&node, OnError::Note);
        node.take_agent();
        node.ok(&start(WINDOW));
        log.wait(&node, &[" applied "]);
        let (daemons, folder) = (node.look().daemons, node.ok(FOLDER));
        let (random, vrfs, vni) = (Random::seeded(), Vrfs::new(), FIRST_VNI);
        let (durations, longest, missed) = (Default::default(), Duration::ZERO, 0);
        Self { node, _bridge: bridge, log, random, before, daemons, folder, vrfs, vni, durations, longest, missed }
    }

    /// How long a run of each kind takes when nobody disturbs it.
    fn measure(&mut self) {
        for kind in Kind::ALL {
            self.choose(kind);
            self.log.skip(&self.node);
            let begin = Instant::now();
            self.node.ok(&self.write(kind));
            self.log.wait(&self.node, &[" applied "]);
            self.durations[kind as usize] = begin.elapsed();
        }
    }

    /// Other objects than there are, for a run of that kind.
    fn choose(&mut self, kind: Kind) {
        let families = if self.random.below(2) == 0 { Families::V4 } else { Families::Both };
        match kind {
            Kind::Add => {
                let count = 1 + self.random.below(2) as usize;
                self.vrfs = both(self.vni, families).into_iter().take(count).collect();
            }
            Kind::Prefix => self.first().more_prefixes += 1,
            Kind::Mtu => self.first().mtu = 1500,
            Kind::Vni => {
                self.vni += 1;
                self.first().vni = self.vni;
            }
            Kind::Remove => self.vrfs.clear(),
        }
    }

    fn first(&mut self) -> &mut Vrf {
        self.vrfs.values_mut().next().expect("a change follows an addition")
    }

    /// Shell text that writes what is wanted.
    fn write(&self, kind: Kind) -> String {
        match kind {
            Kind::Vni => replace(OPERATOR_FILE, &operator_file(&both(self.vni, Families::V4).into())),
            _ => replace(OBJECTS, &manifests(&self.vrfs)),
        }
    }

    /// The agent works on a change of that kind, and is killed; then on what that left, and is killed again, as it falls
    /// out; in the end it converges. So most kills hit the way back from another, and cost less time, too.
    fn round(&mut self, kind: Kind, progress: &mut Progress) {
        self.choose(kind);
        let mut told = format!("{kind:?} to {:?}", self.vrfs.keys());
        let mut work = self.write(kind);
        let mut moment = self.random.part_of(self.durations[kind as usize]);
        // The agent that is there may still say something of the change before; one that starts has this work only.
        let mut done = &DONE[..1];
        loop {
            let _ = write!(told, ", killed after {:.2}s", moment.as_secs_f32());
            self.log.skip(&self.node);
            let seen = self.node.run(&format!("{work}\nsleep {:.3}\n{KILL}\n{SOUND}", moment.as_secs_f32()));
            let words =
                || format!("{told}: {}{}\n{}\n{}", seen.stdout, seen.stderr, self.node.evidence(), self.log.tail());
            assert!(seen.status == 0, "{}", words());
            if self.log.has(&self.node, done) {
                self.missed += 1;
                break;
            }
            progress.step(|| format!("longest way back {:.1}s", self.longest.as_secs_f32()));
            if !progress.goes_on() || self.random.below(3) == 0 {
                break;
            }
            (work, done) = (start(WINDOW), &DONE);
            // The way back is short where no reload is owed, so that early moments are taken more often.
            let part = self.random.part_of(self.durations[kind as usize]);
            moment = self.random.part_of(part);
        }
        self.log.skip(&self.node);
        self.converges(&told);
    }

    fn converges(&mut self, told: &str) {
        let begin = Instant::now();
        self.node.ok(&start(WINDOW));
        self.log.wait(&self.node, &DONE);
        self.longest = self.longest.max(begin.elapsed());
        let node = &self.node;
        let words = || format!("after {told}; {}\n{}", node.evidence(), self.log.tail());
        let plan = node.ok(PLAN);
        let quiet = |line: &str| line.ends_with(": nothing to do") || line.ends_with(": none");
        assert!(plan.lines().all(quiet) && plan.lines().count() == 5, "{plan}\n{}", words());
        let look = node.look();
        assert_eq!(look.links, links_of(self.vrfs.keys().copied()), "{}", words());
        assert_eq!(look.daemons, self.daemons, "bgpd and zebra, {}", words());
        let vnis = node.json("vtysh -c 'show vrf vni json'");
        let mut seen: Vec<String> = vnis["vrfs"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|vrf| format!("{} {} {}", vrf["vrf"].as_str().unwrap(), vrf["vni"], vrf["state"].as_str().unwrap()))
            .collect();
        seen.sort();
        let want: Vec<String> = self.vrfs.iter().map(|(name, vrf)| format!("vr.{name} {} Up", vrf.vni)).collect();
        assert_eq!(seen, want, "{}", words());
        assert_eq!(node.ok(FOLDER), self.folder, "files, {}", words());
    }
}

fn killed(image: Image) {
    let mut rig = Rig::boot(image);
    let mut progress = Progress::new("killed", image, "kills", scaled(KILLS));
    println!("SOAK_SEED={} repeats the moments of FRR {}", rig.random.0, image.frr());
    rig.measure();
    let durations = rig.durations.map(|duration| format!("{:.1}s", duration.as_secs_f32())).join(", ");
    let mut round = 0;
    while progress.goes_on() {
        let kind = Kind::of(round, &mut rig.random);
        rig.round(kind, &mut progress);
        round += 1;
    }
    // The way back to a node without VRFs, undisturbed.
    if !rig.vrfs.is_empty() {
        rig.choose(Kind::Remove);
        rig.log.skip(&rig.node);
        rig.node.ok(&rig.write(Kind::Remove));
        rig.log.wait(&rig.node, &[" applied "]);
    }
    rig.node.ok("kill $(cat /run/soak.pid)");
    assert_eq!(rig.node.look().links, Vec::<String>::new());
    assert_eq!(rig.node.ok(FOLDER), rig.folder);
    rig.before.assert_still(&rig.node, "at the end");
    for error in &rig.log.errors {
        println!("[killed FRR {}] the agent said: {error}", image.frr());
    }
    progress.sum_up(&format!(
        "moments of runs that take {durations} (add, prefix, MTU, VNI, remove) undisturbed; after each, frr.conf was sound and FRR ran; longest way back {:.1}s; bgpd and zebra have kept their process numbers; nothing is left behind; {} errors on the way; {} more kills came when the work was done",
        rig.longest.as_secs_f32(),
        rig.log.errors.len(),
        rig.missed
    ));
}
