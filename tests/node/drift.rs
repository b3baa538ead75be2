//! Somebody moves a node: each time it is noticed from an event, put back, told once, and quiet afterwards.

use std::time::{Duration, Instant};

use crate::lab::{Bridge, Image, MANIFESTS, Node, Spelling};

const LIMIT: Duration = Duration::from_secs(120);
/// No clock: what is put back was told by an event. More repairs than anybody would allow.
const EVENTS_ONLY: &str = "--debounce 1s --check-interval 0s --repairs-per-minute 60";

/// What somebody does, whom the agent hears it from, and what shows that it is undone.
struct Drift {
    done: &'static str,
    causes: &'static [&'static str],
    undone: &'static str,
}

const LINKS: [Drift; 9] = [
    Drift {
        done: "ip link del vx.blue",
        causes: &["links"],
        undone: "ip -d link show vx.blue up | grep -q 'vxlan id 100'",
    },
    Drift {
        done: "printf 'link del vx.blue\\nlink add vx.blue master br.blue type vxlan id 999 local 192.0.2.129 dstport 4789 nolearning\\nlink set vx.blue up\\n' | ip -batch -",
        causes: &["links"],
        undone: "ip -d link show vx.blue up | grep -q 'vxlan id 100'",
    },
    Drift { done: "ip link set vx.blue down", causes: &["links"], undone: "ip link show vx.blue up | grep -q vx.blue" },
    Drift {
        done: "ip link set dv.blue mtu 1400",
        causes: &["links"],
        undone: "ip link show dv.blue | grep -q 'mtu 9000'",
    },
    Drift {
        done: "ip link set br.blue nomaster",
        causes: &["links"],
        undone: "ip link show br.blue | grep -q 'master vr.blue'",
    },
    Drift {
        done: "printf 'link set vx.blue down\\nlink set vx.blue name stray\\nlink del stray\\n' | ip -batch -",
        causes: &["links"],
        undone: "ip link show vx.blue up | grep -q vx.blue",
    },
    Drift {
        done: "bridge link set dev vx.blue learning on",
        causes: &["links"],
        undone: "bridge -d link show dev vx.blue | grep -q 'learning off'",
    },
    Drift {
        done: "tc filter del dev br.blue ingress pref 20000",
        causes: &["tc filters"],
        undone: "tc filter show dev br.blue ingress | grep -q network-operator",
    },
    Drift {
        done: "tc qdisc del dev vd.blue clsact",
        causes: &["tc filters"],
        undone: "tc filter show dev vd.blue ingress | grep -q network-operator",
    },
];

const CONF: [Drift; 2] = [
    Drift {
        done: "echo '! by hand' >>/etc/frr/frr.conf",
        causes: &["frr.conf"],
        undone: "! grep -q 'by hand' /etc/frr/frr.conf",
    },
    Drift {
        done: "echo 'log syslog' >/etc/frr/frr.new; mv /etc/frr/frr.new /etc/frr/frr.conf",
        causes: &["frr.conf"],
        undone: "grep -q 'router bgp 64510 vrf vr.blue' /etc/frr/frr.conf",
    },
];

/// These need a look at the running configuration.
const POLICY: [Drift; 3] = [
    Drift {
        done: "vtysh -c 'configure terminal' -c 'no ip prefix-list pl_red_import_10 seq 2'",
        causes: &["vtysh"],
        undone: "vtysh -c 'show ip prefix-list pl_red_import_10' | grep -q 'seq 2 '",
    },
    Drift {
        done: "vtysh -c 'configure terminal' -c 'route-map rm_red_export permit 65000'",
        causes: &["vtysh"],
        undone: "! vtysh -c 'show running-config' | grep -q 'rm_red_export permit 65000'",
    },
    Drift {
        done: "vtysh -c 'configure terminal' -c 'router bgp 64510' -c 'address-family ipv4 unicast' -c 'no neighbor dv.red route-map rm_red_import in'",
        causes: &["vtysh"],
        undone: "vtysh -c 'show running-config' | grep -q 'neighbor dv.red route-map rm_red_import in'",
    },
];

const NEIGHBOR: Drift = Drift {
    done: "vtysh -c 'configure terminal' -c 'router bgp 64510' -c 'no neighbor dv.blue interface'",
    causes: &["vtysh"],
    undone: "vtysh -c 'show bgp vrf default neighbors dv.blue' | grep -q 'BGP state = Established'",
};

/// FRR brings its configuration back by itself, and the agent makes sure of it.
const RESTARTS: [Drift; 2] = [
    Drift { done: "kill -KILL $(pidof bgpd)", causes: &["FRR daemons"], undone: ESTABLISHED },
    Drift { done: "systemctl restart frr", causes: &["start of frr.service"], undone: ESTABLISHED },
];

const ESTABLISHED: &str = "vtysh -c 'show bgp vrf vr.blue neighbors vd.blue' | grep -q 'BGP state = Established'";

/// From the first that is heard of it until it is put back.
const SOON: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
/// How often something is done to a node whose cores are busy with other nodes until it is put back so soon.
const TRIES: usize = 3;

/// How the limit on repairs is told.
const GIVEN_UP: &str = "the node was put back as often as";

struct Rig {
    node: Node,
    /// Removed behind the node.
    _bridge: Bridge,
}

impl Rig {
    fn boot(image: Image, args: &str) -> Self {
        let bridge = Bridge::new();
        let node = Node::of_the_lab(&bridge, image, Spelling::Plain);
        node.comes_first();
        node.give_manifests();
        node.start_agent(&format!("--manifests {MANIFESTS} {args}"));
        node.applied(0, LIMIT);
        Self { node, _bridge: bridge }
    }

    /// The last inspection finds nothing, and nothing more is heard.
    fn quiet(&self) {
        self.node.assert_nothing_done(|_| {});
    }

    /// Gives how long it took.
    fn is_undone(&self, drift: &Drift) -> Duration {
        let Drift { done, undone, causes: _ } = drift;
        self.node.ok(done);
        let begin = Instant::now();
        self.node.wait(&format!("`{undone}` after `{done}`"), LIMIT, |node| {
            if node.run(undone).status == 0 { Ok(()) } else { Err(node.agent_log()) }
        });
        begin.elapsed()
    }

    /// It is undone because of what the agent heard, and soon. Gives how many repairs that took.
    #[expect(clippy::print_stdout, reason = "a measurement")]
    fn is_put_back(&self, drift: &Drift) -> usize {
        let mut took = Vec::new();
        while took.iter().all(|took| *took > SOON) {
            assert!(took.len() < TRIES, "`{}`: {took:?}\n{}", drift.done, self.node.agent_log());
            took.push(self.is_put_back_once(drift));
        }
        println!("`{}`: put back after {took:?}", drift.done);
        took.len()
    }

    /// Gives how long it took from the first that was heard of it.
    fn is_put_back_once(&self, drift: &Drift) -> jiff::SignedDuration {
        let Drift { done, causes, .. } = drift;
        let node = &self.node;
        let (repaired, asked) = (node.says(" repaired "), node.agent_log().lines().count());
        self.is_undone(drift);
        node.agent_says(" repaired ", repaired, LIMIT);
        let log = node.agent_log();
        let new: Vec<&str> = log.lines().skip(asked).collect();
        let told = new.iter().find(|line| line.contains(" repaired ")).unwrap();
        assert!(causes.iter().any(|cause| told.contains(cause)), "`{done}`: {told}");
        let failed = new.iter().any(|line| line.contains("ERROR"));
        assert!(!failed, "`{done}`: {}\n{}", new.join("\n"), node.last_words());
        let noticed = new.iter().find(|line| line.contains("asked for a run")).unwrap();
        written_at(told).duration_since(written_at(noticed))
    }

    /// FRR undoes it by itself; the agent makes sure.
    fn is_looked_at(&self, drift: &Drift) {
        let asked = self.node.agent_log().lines().count();
        self.is_undone(drift);
        self.node.wait(&format!("a run because of {:?}", drift.causes), LIMIT, |node| {
            let log = node.agent_log();
            let because =
                |line: &str| line.contains("run ended") && drift.causes.iter().all(|cause| line.contains(cause));
            if log.lines().skip(asked).any(because) { Ok(()) } else { Err(log) }
        });
    }
}

/// When a line of the log was written.
fn written_at(line: &str) -> jiff::Timestamp {
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn what_somebody_does_is_undone(image: Image) {
    let rig = Rig::boot(image, EVENTS_ONLY);
    rig.quiet();
    assert_eq!(rig.node.says(" repaired "), 0, "the agent's own work is no drift");
    let put_back = |drifts: &[Drift]| drifts.iter().map(|drift| rig.is_put_back(drift)).sum::<usize>();
    let reloads = rig.node.reloads();
    let repairs = put_back(&LINKS);
    assert_eq!(rig.node.reloads(), reloads, "links are put back without a reload");
    let repairs = repairs + put_back(&CONF) + put_back(&POLICY);
    rig.node.ok("ip link add site type dummy; ip link set site up; ip link del site; vtysh -c 'show version'");
    rig.quiet();
    assert_eq!(rig.node.says(" repaired "), repairs, "{}", rig.node.agent_log());
    match image {
        Image::Trixie => assert_ne!(rig.is_put_back(&NEIGHBOR), 0),
        // A neighbor that is deleted by hand may take bgpd 8.4.4 with it when it comes back: whoever puts it back then, it is.
        Image::Bookworm => drop(rig.is_undone(&NEIGHBOR)),
    }
    RESTARTS.iter().for_each(|drift| rig.is_looked_at(drift));
    rig.quiet();
}

#[test]
fn what_somebody_does_is_undone_on_bookworm() {
    what_somebody_does_is_undone(Image::Bookworm);
}

#[test]
fn what_somebody_does_is_undone_on_trixie() {
    what_somebody_does_is_undone(Image::Trixie);
}

#[test]
fn drift_waits_for_no_window_and_opens_none_and_a_fight_is_given_up_for_a_while() {
    let rig = Rig::boot(Image::Trixie, "--debounce 60s --check-interval 0s --repairs-per-minute 3");
    rig.quiet();
    let node = &rig.node;
    node.ok(&format!("sed -i 's/^  seq: 20/  seq: 25/' {MANIFESTS}/blue.yaml"));
    let opened = Instant::now();
    let repaired = || node.says(" repaired ");
    while repaired() < 3 {
        let before = repaired();
        node.ok("ip link del vx.blue");
        node.agent_says(" repaired ", before, Duration::from_secs(20));
    }
    assert!(opened.elapsed() < Duration::from_secs(55), "it takes the lab too long");
    assert_eq!(node.says(" applied "), 1, "the window is open");
    node.ok("ip link del vx.blue");
    node.agent_says(GIVEN_UP, 0, LIMIT);
    assert_eq!(repaired(), 3);
    // The run for the change looks at the whole node, and is no repair.
    node.applied(1, LIMIT);
    node.ok("ip link show vx.blue up");
    assert_eq!(node.says(GIVEN_UP), 1, "{}", node.agent_log());
}

#[test]
fn a_bus_that_goes_away_is_told_once_and_found_again() {
    let rig = Rig::boot(Image::Trixie, EVENTS_ONLY);
    let node = &rig.node;
    node.ok("systemctl stop dbus.socket dbus.service");
    node.agent_says("found at the next check only", 0, LIMIT);
    // A few tries.
    std::thread::sleep(Duration::from_secs(5));
    node.ok("systemctl start dbus.socket dbus.service");
    node.agent_says("systemd tells of frr.service again", 0, LIMIT);
    assert_eq!(node.says("found at the next check only"), 1);
    rig.quiet();
}
