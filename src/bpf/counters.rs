//! What became of packets at the router, as its counters tell.

use std::fmt;

use serde::Serialize;

/// How many counters there are (`OUTCOMES` in router.bpf.c).
pub const OUTCOMES: u32 = 32;
/// The first of those that stand for an answer of `bpf_fib_lookup`.
const ANSWER: u32 = 16;

/// What is done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Its Ethernet header is rewritten, and it leaves by its next interface.
    Redirect,
    /// It leaves by its next interface through the neighbour table.
    RedirectNeighbour,
    /// The kernel does with it what it does without us.
    Pass,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redirect => "redirect",
            Self::RedirectNeighbour => "redirect-neighbour",
            Self::Pass => "pass",
        })
    }
}

/// Packets of one kind, on all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// What is done with them.
    pub verdict: Verdict,
    /// Why.
    pub reason: &'static str,
    /// What `bpf_fib_lookup` answered; `None` where it was not asked.
    pub fib: Option<&'static str>,
    /// How many there were.
    pub packets: u64,
    /// Their length with the Ethernet header, in bytes.
    pub bytes: u64,
}

/// Answers of `bpf_fib_lookup` that stop a packet (`BPF_FIB_LKUP_RET_*` of linux/bpf.h).
fn answer(number: u32) -> Option<(&'static str, &'static str)> {
    Some(match number {
        1 => ("blackhole", "its route is a blackhole"),
        2 => ("unreachable", "its route is unreachable"),
        3 => ("prohibit", "its route is prohibited"),
        4 => ("not-fwded", "it has no route, or is for this host"),
        5 => ("fwd-disabled", "forwarding is off on its interface"),
        6 => ("unsupp-lwt", "its route encapsulates"),
        8 => ("frag-needed", "it is too long for the next link"),
        9 => ("no-src-addr", "the interface has no address"),
        15 => ("error", "the route could not be looked up"),
        _ => return None,
    })
}

impl Counter {
    /// The counter of that index; `None` where no packet is ever counted.
    pub fn new(index: u32, packets: u64, bytes: u64) -> Option<Self> {
        let (verdict, reason, fib) = match index {
            0 => (Verdict::Redirect, "routed", Some("success")),
            1 => (Verdict::RedirectNeighbour, "routed, and its neighbour looked after", Some("success")),
            2 => (Verdict::RedirectNeighbour, "its neighbour is to be found", Some("no-neigh")),
            3 => (Verdict::Pass, "its interface is not set up yet", None),
            4 => (Verdict::Pass, "broadcast, multicast or for another host", None),
            5 => (Verdict::Pass, "VLAN-tagged", None),
            6 => (Verdict::Pass, "neither IPv4 nor IPv6", None),
            7 => (Verdict::Pass, "broken IP header", None),
            8 => (Verdict::Pass, "IPv4 or hop-by-hop options", None),
            9 => (Verdict::Pass, "its TTL or hop limit ends here", None),
            10 => (Verdict::Pass, "its addresses are not routed", None),
            11 => (Verdict::Pass, "segmentation other than TCP and UDP", None),
            12 => (Verdict::Pass, "it could not be read or written", None),
            ANSWER..OUTCOMES => {
                let (fib, reason) = answer(index - ANSWER)?;
                (Verdict::Pass, reason, Some(fib))
            }
            _ => return None,
        };
        Some(Self { verdict, reason, fib, packets, bytes })
    }
}
