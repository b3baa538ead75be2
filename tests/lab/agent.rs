//! The agent in a node, as a unit of its systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Node;

/// Objects from a folder, and a window short enough for tests.
pub const FROM_MANIFESTS: &str = "--manifests /etc/network-operator/manifests --debounce 1s";

/// The unit as it is shipped, and where it is on a node.
const UNIT: &str = include_str!("../../deploy/systemd/network-operator.service");
const UNIT_FILE: &str = "/etc/systemd/system/network-operator.service";
/// Of what the unit says, what systemd is asked about.
const ASKED: [&str; 3] = ["CapabilityBoundingSet", "ProtectSystem", "NoNewPrivileges"];

/// What the agent says of a run by new inputs that has ended, and of no other.
const BY_INPUTS: &str = "due=Change seconds=";

/// Waits until a text stands in so many lines of the agent's journal, for so many seconds. What it finds is printed: grep ends at the first
/// line where nobody would see it.
const FOLLOW: &str = r#"exec 3< <(exec journalctl -u network-operator -o cat --no-tail -f)
timeout "$2" grep -cFm "$1" -- "$0" <&3; kill $!"#;

/// The value of a key that the unit has once.
fn shipped(key: &str) -> &'static str {
    let values: Vec<_> = UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    let &[value] = values.as_slice() else { panic!("the unit has {key} {} times", values.len()) };
    value
}

/// Names of capabilities, whatever their order and case.
fn words(value: &str) -> BTreeSet<String> {
    value.split_whitespace().map(str::to_lowercase).collect()
}

/// What the kernel says of a process.
#[derive(Debug)]
pub struct Process {
    status: String,
    mounts: String,
}

/// What may be done below a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    Written,
}

impl Process {
    /// A line of `/proc/PID/status`.
    pub fn status(&self, key: &str) -> &str {
        let value = self.status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {key} in {}", self.status)).trim()
    }

    /// A line of `/proc/PID/status` that is an amount of memory, in kB.
    pub fn kilobytes(&self, key: &str) -> u32 {
        let value = self.status(key);
        value.strip_suffix(" kB").and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{key}: {value}"))
    }

    /// The same in MB; the kernel's kB are 1,024 bytes.
    pub fn megabytes(&self, key: &str) -> f64 {
        f64::from(self.kilobytes(key)) * 1.024 / 1000.0
    }

    /// What is mounted where it looks; of mounts above each other, the one that it sees.
    pub fn mounts(&self) -> BTreeMap<String, Access> {
        let mounts = self.mounts.lines().map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let access =
                if fields[5].split(',').any(|option| option == "ro") { Access::ReadOnly } else { Access::Written };
            (fields[4].to_owned(), access)
        });
        mounts.collect()
    }
}

impl Node {
    /// Starts the agent.
    pub fn start_agent(&self, args: &str) {
        self.start_agent_with(args, "");
    }

    /// Starts the agent with more environment: `-E NAME=VALUE`.
    pub fn start_agent_with(&self, args: &str, env: &str) {
        self.ok(&format!(
            "systemctl reset-failed network-operator 2>/dev/null; systemd-run -q --unit=network-operator -p Type=exec \
             -p TimeoutStopSec=60 -E NODE_NAME={} -E RUST_LOG=network_operator=debug {env} /labbin/network-operator run {args}",
            self.name()
        ));
    }

    /// Starts the agent to be measured: its CPU time is counted, it has what the unit that is shipped says of memory, and no debug log
    /// unless `env` asks for one.
    pub fn start_agent_measured(&self, args: &str, env: &str) {
        const MEMORY: &str = "Environment=MALLOC_ARENA_MAX";
        let memory = format!("-p '{MEMORY}={}'", shipped(MEMORY));
        self.start_agent_with(args, &format!("-p CPUAccounting=yes {memory} -E RUST_LOG=info {env}"));
    }

    /// Starts the agent by the unit that is shipped, now and after each boot; `defaults` is what the unit reads from /etc/default. All that
    /// is not as it is shipped is where the program is, and who mounts that folder.
    pub fn start_unit(&self, defaults: &str) {
        let installed = shipped("ExecStart");
        let here = installed.replace("/usr/local/bin/", "/labbin/");
        assert_ne!(here, installed, "the unit starts another program");
        self.write(UNIT_FILE, UNIT);
        let drop_in = format!("[Unit]\nAfter=lab-exec.service\n\n[Service]\nExecStart=\nExecStart={here}\n");
        self.write(&format!("{UNIT_FILE}.d/lab.conf"), drop_in);
        self.write("/etc/default/network-operator", defaults);
        self.ok("systemctl daemon-reload && systemctl enable -q --now network-operator");
    }

    /// Asserts that the agent runs as confined as the unit that is shipped says, and that it was refused nothing so far.
    pub fn assert_confined_as_shipped(&self) {
        let shown = self.ok(&format!("systemctl show -p {} network-operator", ASKED.join(",")));
        let shown: Vec<_> = shown.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(shown.len(), ASKED.len(), "{shown:?}");
        for (key, value) in shown {
            assert_eq!(words(value), words(shipped(key)), "{key}");
        }
        // What systemd is told, and what the kernel holds the process to, are two things.
        let process = self.process(&self.agent_pid());
        let bounding = u64::from_str_radix(process.status("CapBnd"), 16).unwrap();
        assert_eq!(bounding.count_ones() as usize, words(shipped("CapabilityBoundingSet")).len(), "{process:?}");
        // 2: there is a filter of system calls.
        assert_eq!((process.status("NoNewPrivs"), process.status("Seccomp")), ("1", "2"), "{process:?}");
        assert_eq!(process.mounts().get("/"), Some(&Access::ReadOnly), "{process:?}");
        self.assert_refused_nothing();
    }

    /// Asserts that neither the kernel nor the API server has refused the agent anything so far.
    pub fn assert_refused_nothing(&self) {
        // Program and maps of the eBPF router are pinned, in a folder below one that is read-only.
        self.ok("ls /sys/fs/bpf/network-operator/router-*");
        let log = self.agent_log();
        for refusal in ["EPERM", "Operation not permitted", "Read-only file system", "Permission denied", "forbidden"] {
            assert!(!log.contains(refusal), "{refusal:?} is in the log of {}:\n{log}", self.name());
        }
    }

    /// Process number of the agent.
    pub fn agent_pid(&self) -> String {
        self.ok("systemctl show -P MainPID network-operator").trim().to_owned()
    }

    /// A process as the kernel has it.
    pub fn process(&self, pid: &str) -> Process {
        let read = |name: &str| self.read(&format!("/proc/{pid}/{name}"));
        Process { status: read("status"), mounts: read("mountinfo") }
    }

    /// Stops the agent with SIGTERM.
    pub fn stop_agent(&self) {
        self.ok("systemctl stop network-operator");
    }

    /// How often the agent has said a text.
    pub fn says(&self, text: &str) -> usize {
        self.agent_log().lines().filter(|line| line.contains(text)).count()
    }

    /// Asserts that whatever happens meanwhile makes no netlink write, no file write and no reload.
    pub fn assert_nothing_done(&self, meanwhile: impl FnOnce(&Self)) {
        let state = || {
            self.ok("stat -c '%i %Y %Z' /etc/frr/frr.conf /etc/frr/frr.conf.tpl /var/lib/network-operator/*; ls -a /etc/frr")
                + &self.reloads().to_string()
        };
        // Bridge and FRR have things to settle among themselves after a new port: the last that a bridge tells of one is the end of
        // its forward delay, 15 s after it came up, also without STP (`br_forward_delay_timer_expired` in net/bridge/br_stp_timer.c).
        self.wait("quiet links", Duration::from_secs(120), |node| {
            let events = node.run("timeout 17 ip monitor link address").stdout;
            if events.is_empty() { Ok(()) } else { Err(events) }
        });
        let before = state();
        self.ok("rm -f /tmp/monitor; setsid ip monitor link address >>/tmp/monitor 2>&1 & echo $! >/tmp/monitor.pid; setsid tc monitor >>/tmp/monitor 2>&1 & echo $! >>/tmp/monitor.pid");
        meanwhile(self);
        self.ok("kill $(cat /tmp/monitor.pid)");
        assert_eq!(self.read("/tmp/monitor"), "", "netlink writes");
        assert_eq!(state(), before);
    }

    /// What FRR, systemd of it, and the agent said last, in one order.
    pub fn last_words(&self) -> String {
        self.ok(
            "journalctl -u frr -u network-operator -o short-monotonic --no-hostname --no-pager -n 120 | cut -c1-300",
        )
    }

    /// What the agent said.
    pub fn agent_log(&self) -> String {
        self.ok("journalctl -u network-operator -o cat --no-pager")
    }

    /// Waits until the agent has said a text more often than `before`, and gives how often it has now. Who asks the node again and again
    /// keeps it from its work: it is the node that waits for the next line.
    pub fn agent_says(&self, text: &str, before: usize, limit: Duration) -> usize {
        let quoted = text.replace('\'', r"'\''");
        // Less than what a command may take.
        let seconds = limit.as_secs().clamp(1, 60);
        let next = format!("bash -c '{FOLLOW}' '{quoted}' {} {seconds}", before + 1);
        self.wait(&format!("the agent says {text:?}"), limit, |node| {
            let left = node.run(&next);
            let count = node.says(text);
            if count > before { Ok(count) } else { Err(format!("{count} times {}", left.stderr)) }
        })
    }

    /// How often systemd reloaded frr.service, as the journal tells.
    pub fn reloads(&self) -> usize {
        let count = self.ok("journalctl -o cat --no-pager _PID=1 UNIT=frr.service | grep -c '^Reloading' || true");
        count.trim().parse().unwrap()
    }

    /// Waits until the agent has applied one more change set than `before`, and gives how many it has now.
    pub fn applied(&self, before: usize, limit: Duration) -> usize {
        self.agent_says(" applied ", before, limit)
    }

    /// Does what asks for a run by new inputs, and waits until one has ended that was none of a failure: the looks at the node in
    /// between, which also find nothing to do, leave the window of the change open.
    pub fn answered(&self, limit: Duration, ask: impl FnOnce(&Self)) {
        let runs = self.says(BY_INPUTS);
        ask(self);
        self.agent_says(BY_INPUTS, runs, limit);
    }

    /// What is answered over HTTP on that port of the node: status and body.
    pub fn asked(&self, port: u16, path: &str) -> (String, String) {
        let ask = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        let answer = self.ok(&format!("bash -c \"{ask}\""));
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer over HTTP");
        (head.split_whitespace().nth(1).unwrap().to_owned(), body.to_owned())
    }

    /// Process number of a daemon.
    pub fn pid(&self, daemon: &str) -> String {
        self.ok(&format!("pidof {daemon}")).trim().to_owned()
    }

    /// Waits until frr.service is up.
    pub fn wait_for_frr(&self) {
        self.wait("frr.service is active", Duration::from_secs(90), |node| {
            let state = node.run("systemctl is-active frr && vtysh -c 'show version'");
            if state.status == 0 { Ok(()) } else { Err(state.stdout + &state.stderr) }
        });
    }

    /// What FRR knows of routes, and said, for whoever has to find out why one is missing.
    pub fn routing(&self) -> String {
        let asked = [
            "show bgp vrf all summary",
            "show bgp vrf all ipv4 unicast",
            "show bgp l2vpn evpn route type prefix",
            "show bgp l2vpn evpn vni",
            "show ip route vrf all",
            "show zebra client",
            "show mgmt backend-adapter all",
            "show running-config",
        ];
        // What one version does not know, or a daemon does not answer, keeps the rest from nobody.
        let asked = asked.map(|command| format!("echo '{command}'; vtysh -c '{command}' 2>&1; "));
        format!("{}\n{}\n{}", self.name(), self.run(&asked.concat()).stdout, self.last_words())
    }
}
