//! The agent in a node, as a unit of its systemd.

use std::time::Duration;

use super::Node;

/// Arguments that most tests share.
pub struct AgentArgs;

impl AgentArgs {
    /// Objects from a folder, and a window short enough for tests.
    pub const MANIFESTS: &'static str = "--manifests /etc/network-operator/manifests --debounce 1s";
}

impl Node {
    /// Starts the agent.
    pub fn start_agent(&self, args: &str) {
        self.ok(&format!(
            "systemctl reset-failed network-operator 2>/dev/null; systemd-run -q --unit=network-operator -p Type=exec \
             -p TimeoutStopSec=60 -E NODE_NAME={} -E RUST_BACKTRACE=1 /labbin/network-operator run {args}",
            self.name()
        ));
    }

    /// Stops the agent with SIGTERM.
    pub fn stop_agent(&self) {
        self.ok("systemctl stop network-operator");
    }

    /// What the agent said.
    pub fn agent_log(&self) -> String {
        self.ok("journalctl -u network-operator -o cat --no-pager")
    }

    /// Waits until the agent has said a text more often than `before`, and gives how often it has now.
    pub fn agent_says(&self, text: &str, before: usize, limit: Duration) -> usize {
        self.wait(&format!("the agent says {text:?}"), limit, |node| {
            let log = node.agent_log();
            let count = log.lines().filter(|line| line.contains(text)).count();
            if count > before { Ok(count) } else { Err(format!("{count} times in:\n{log}")) }
        })
    }

    /// How often systemd reloaded frr.service, as the journal tells.
    pub fn reloads(&self) -> usize {
        let count = self.ok("journalctl -o cat --no-pager _PID=1 UNIT=frr.service | grep -c '^Reloading' || true");
        count.trim().parse().unwrap()
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
}
