//! What stands where inputs are lost: while the agent runs, and over a restart of agent and node.

use std::time::Duration;

use crate::lab::{Bridge, FROM_MANIFESTS, Image, MANIFESTS, Node, Spelling};

const LIMIT: Duration = Duration::from_secs(180);
const LINKS: &str = "ip -o link | grep -cE ': (vr|br|vx|vd|dv)\\.(blue|red)' || true";

struct Rig {
    node: Node,
    /// Removed behind the node.
    _bridge: Bridge,
}

impl Rig {
    fn boot(image: Image) -> Self {
        let bridge = Bridge::new();
        let node = Node::of_the_lab(&bridge, image, Spelling::Plain);
        node.give_manifests();
        Self { node, _bridge: bridge }
    }

    fn start_agent(&self) {
        self.node.start_agent(&format!("{FROM_MANIFESTS} --input-limit 5s"));
    }

    fn state(&self) -> String {
        self.node.ok("md5sum /etc/frr/frr.conf") + &self.node.ok(LINKS)
    }

    /// A run goes by what was lost, says so, and changes nothing.
    fn keeps_the_node(&self, command: &str, words: &str) {
        let (before, reloads) = (self.state(), self.node.reloads());
        let (idle, said) = (self.node.says("nothing to do"), self.node.says(words));
        self.node.answered(LIMIT, |node| drop(node.ok(command)));
        self.node.agent_says(words, said, LIMIT);
        assert!(self.node.says("nothing to do") > idle, "{command}");
        assert_eq!((self.state(), self.node.reloads()), (before, reloads), "{command}");
    }

    fn up(&self) {
        let vnis = self.node.json("vtysh -c 'show vrf vni json'");
        let up = |vrf: &serde_json::Value| vrf["state"] == "Up";
        assert!(vnis["vrfs"].as_array().is_some_and(|vrfs| vrfs.len() == 2 && vrfs.iter().all(up)), "{vnis}");
    }
}

#[test]
fn inputs_that_are_lost_keep_the_node_until_somebody_says_that_there_are_none() {
    let rig = Rig::boot(Image::Trixie);
    rig.start_agent();
    let mut applied = rig.node.applied(0, LIMIT);
    let state = rig.state();
    // Away and back at once: one file after the other would be one set of objects after the other.
    let away = format!("mkdir /tmp/away && mv {MANIFESTS}/* /tmp/away");
    rig.keeps_the_node(&away, "as where a mount is missing: mount it; to remove all objects");
    rig.node.ok(&format!("mv /tmp/away/* {MANIFESTS}"));
    rig.node.agent_says("the manifests are good again", 0, LIMIT);
    rig.keeps_the_node(&format!("mv {MANIFESTS} {MANIFESTS}.away"), "No such file or directory");
    rig.keeps_the_node(&format!("ln -s manifests {MANIFESTS}"), "Too many levels of symbolic links");

    // As after a boot where the mount is not there, and nothing else is as it should be.
    rig.node.ok("kill -9 $(pidof network-operator)");
    rig.node.ok("sed -i '/BGP}}/d' /etc/frr/frr.conf.tpl && echo 'vnimap: {' > /opt/network-operator/config.yaml");
    rig.node.ok("touch /etc/frr/.network-operator-a1B2c3.new /etc/frr/frr.conf.staged");
    rig.node.lose_links();
    assert_ne!(rig.state(), state);
    rig.start_agent();
    rig.node.agent_says("no objects yet: those that were accepted last are applied", 0, LIMIT);
    applied = rig.node.applied(applied, LIMIT);
    assert_eq!(rig.state(), state);
    rig.up();
    let log = rig.node.agent_log();
    for words in
        ["the operator file cannot be used as it is", "the template cannot be used; the last good one stays in force"]
    {
        assert_eq!(log.matches(words).count(), 1, "{words:?} in\n{log}");
    }
    assert_eq!(rig.node.ok("ls -A /etc/frr | grep -E 'staged|network-operator' || true"), "");

    rig.node.ok(&format!("rm {MANIFESTS} && mv {MANIFESTS}.away {MANIFESTS}"));
    rig.node.no_objects();
    rig.node.applied(applied, LIMIT);
    assert_eq!(rig.node.ok(LINKS).trim(), "0");
}

#[test]
fn a_folder_for_the_state_that_cannot_be_had_is_named_and_nothing_is_touched() {
    let rig = Rig::boot(Image::Bookworm);
    let before = rig.state();
    for (options, folder, words) in [
        ("-p ReadOnlyPaths=/var/lib", "/var/lib/network-operator", "Read-only file system"),
        ("", "/etc/frr/frr.conf", "Not a directory"),
    ] {
        rig.node.start_agent_with(&format!("{FROM_MANIFESTS} --state-dir {folder}"), options);
        rig.node.agent_says(&format!("keep state in {folder}: it must be a folder that the agent may write"), 0, LIMIT);
        rig.node.agent_says(words, 0, LIMIT);
        rig.node.wait("the end of the agent", LIMIT, |node| {
            let state = node.ok("systemctl show -p ActiveState --value network-operator");
            if state.trim() == "failed" { Ok(()) } else { Err(state) }
        });
        assert_eq!(rig.state(), before);
    }
    rig.start_agent();
    rig.node.applied(0, LIMIT);
    rig.node.run("/labbin/network-operator run --node-name other --manifests /nowhere 2> /tmp/second");
    let second = rig.node.read("/tmp/second");
    assert!(second.contains("another network-operator works with /var/lib/network-operator"), "{second}");

    // What FRR runs is what the next start goes by, also while a link does not come up.
    rig.node.ok("ip link set vx.red protodown on");
    rig.node.ok(&format!(
        "sed -i 's/203.0.113.48\\/28, action: deny/203.0.113.48\\/28, action: permit/' {MANIFESTS}/red.yaml"
    ));
    rig.node.agent_says("the L3 VNI of vr.red (VNI 101) is not up", 0, LIMIT);
    rig.node.wait("the change among what was accepted", LIMIT, |node| {
        let accepted = node.json("cat /var/lib/network-operator/state.json").to_string();
        let there = accepted.contains("\"action\":\"permit\",\"cidr\":\"203.0.113.48/28\"");
        if there { Ok(()) } else { Err(accepted) }
    });
    assert_eq!(rig.node.says("the run succeeds again"), 0);
    rig.node.ok("ip link set vx.red protodown off");
    rig.node.agent_says("the run succeeds again", 0, LIMIT);
    rig.up();
}
