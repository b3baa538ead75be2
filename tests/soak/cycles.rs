//! VRFs come and go, hundreds of times: FRR's daemons live through it, and at the end the node is as it was.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::lab::{Bridge, Foreign, Image, Node, Spelling, foreign};
use crate::objects::{Families, Vrf, Vrfs};
use crate::progress::{Mean, Progress, scaled};
use crate::rig::{AgentLog, OnError, WINDOW, links_of, start};

const CYCLES: usize = 200;

#[test]
fn frr_8_lives_through_200_cycles_of_adding_and_removing_vrfs() {
    cycles(Image::Bookworm);
}

#[test]
fn frr_10_lives_through_200_cycles_of_adding_and_removing_vrfs() {
    cycles(Image::Trixie);
}

const NAMES: [[(&str, u32); 2]; 3] =
    [[("ant", 200), ("bee", 201)], [("cat", 210), ("dog", 211)], [("elk", 220), ("fox", 221)]];

/// The VRFs of a cycle. Those of one and of the next share no name, so that each change set can remove the one and add
/// the other; every third cycle has the names of the first, as FRR must not remember what they were.
fn vrfs_of(cycle: usize) -> Vrfs {
    let families = if cycle.is_multiple_of(2) { Families::Both } else { Families::V4 };
    let count = if cycle % 4 < 2 { 2 } else { 1 };
    NAMES[cycle % 3].into_iter().take(count).map(|(name, vni)| (name, Vrf::new(vni, families))).collect()
}

/// All that the operator file knows.
fn known() -> Vrfs {
    NAMES.into_iter().flatten().map(|(name, vni)| (name, Vrf::new(vni, Families::V4))).collect()
}

/// What happens to the VRFs of a cycle before they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Prefix,
    Vni,
}

impl Between {
    fn of(cycle: usize) -> Self {
        match cycle % 20 {
            4 => Self::Prefix,
            14 => Self::Vni,
            _ => Self::Nothing,
        }
    }
}

/// After these the node is without VRFs; after the others the next come as the last go.
fn ends_empty(cycle: usize) -> bool {
    matches!(cycle % 20, 0 | 9)
}

struct Rig {
    node: Node,
    /// Removed behind the node.
    _bridge: Bridge,
    log: AgentLog,
    before: Foreign,
    daemons: String,
    change_sets: Mean,
}

impl Rig {
    fn boot(image: Image) -> Self {
        let bridge = Bridge::new();
        let node = Node::of_the_lab(&bridge, image, Spelling::Plain);
        let before = foreign(&node);
        node.set_objects(&Vrfs::new());
        node.set_operator_file(&known());
        let mut log = AgentLog::of(&node, OnError::Fail);
        node.take_agent();
        node.ok(&start(WINDOW));
        // Its first run writes frr.conf without the hints.
        log.wait(&node, &[" applied "]);
        let daemons = node.look().daemons;
        node.watch_vnis();
        Self { node, _bridge: bridge, log, before, daemons, change_sets: Mean::default() }
    }

    /// One change set, and what must hold behind it.
    fn change(&mut self, what: &str, vrfs: &Vrfs, change: impl FnOnce(&Node)) {
        self.log.skip(&self.node);
        let begin = Instant::now();
        change(&self.node);
        self.log.wait(&self.node, &[" applied "]);
        self.change_sets.add(begin.elapsed());
        let look = self.node.look();
        assert_eq!(look.daemons, self.daemons, "bgpd and zebra, {what}; {}", self.node.evidence());
        assert_eq!(look.reloads, 1, "reloads, {what}; {}", self.log.tail());
        assert_eq!(look.links, links_of(vrfs.keys().copied()), "{what}");
    }

    fn cycle(&mut self, cycle: usize) {
        let mut vrfs = vrfs_of(cycle);
        self.change(&format!("adding in cycle {cycle}"), &vrfs, |node| node.set_objects(&vrfs));
        let first = vrfs.values_mut().next().unwrap();
        match Between::of(cycle) {
            Between::Nothing => {}
            Between::Prefix => {
                first.more_prefixes = 1;
                self.change(&format!("a prefix more in cycle {cycle}"), &vrfs, |node| node.set_objects(&vrfs));
            }
            Between::Vni => {
                first.vni += 100;
                self.change(&format!("another VNI in cycle {cycle}"), &vrfs, |node| {
                    let mut known = known();
                    known.extend(vrfs.clone());
                    node.set_operator_file(&known);
                });
            }
        }
        if ends_empty(cycle) {
            self.remove_all(&format!("removing in cycle {cycle}"));
        }
    }

    fn remove_all(&mut self, what: &str) {
        self.change(what, &BTreeMap::new(), |node| node.set_objects(&Vrfs::new()));
    }
}

fn cycles(image: Image) {
    let mut rig = Rig::boot(image);
    let mut progress = Progress::new("cycles", image, "cycles", scaled(CYCLES));
    while progress.goes_on() {
        let cycle = progress.done();
        rig.cycle(cycle);
        progress.step(|| format!("{}, {} sightings", rig.change_sets.words(), rig.node.watched().1.len()));
        if !progress.goes_on() && !ends_empty(cycle) {
            rig.remove_all("removing at the end");
        }
    }
    let Rig { node, before, daemons, change_sets, log, .. } = &rig;
    before.assert_still(node, &log.tail());
    assert_eq!(node.look().reloads, 0, "a reload that nobody asked for");
    assert_eq!(node.pid("bgpd zebra").split_whitespace().count(), 2);
    let (polls, seen) = node.watched();
    // At the end, because each of them is to be known.
    assert!(seen.is_empty(), "seen in {polls} looks at zebra's VNIs, in {}:\n{}", change_sets.words(), seen.join("\n"));
    node.ok("kill $(cat /run/soak.pid) && rm /run/soak.watch");
    progress.sum_up(&format!(
        "{}, one reload each; bgpd and zebra have kept their process numbers ({daemons}); zebra was asked {polls} times and took no VNI for a layer-2 one; nothing is left behind",
        change_sets.words()
    ));
}
