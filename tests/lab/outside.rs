//! A process of a node as the machine beneath sees it.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use super::Node;

/// The process in which User-Mode Linux runs the user code of one process of the node: it has one for each address space.
pub struct Outside {
    pid: u32,
}

/// End of what a process of the node may map. Above are two pages of User-Mode Linux; the last one below is the same in all processes.
const TASK_END: u64 = 0x7f_bfff_f000;

fn ranges(maps: &str) -> impl Iterator<Item = Range<u64>> {
    maps.lines().filter_map(|line| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        Some(u64::from_str_radix(from, 16).ok()?..u64::from_str_radix(to, 16).ok()?)
    })
}

/// How much of these pages lies in ranges, each of which may lie in several that touch.
fn part_inside(pages: &[Range<u64>], ranges: &[Range<u64>]) -> f64 {
    let length = |range: &Range<u64>| range.end.saturating_sub(range.start);
    let common =
        |page: &Range<u64>, range: &Range<u64>| length(&(page.start.max(range.start)..page.end.min(range.end)));
    let inside: u64 = pages.iter().flat_map(|page| ranges.iter().map(move |range| common(page, range))).sum();
    inside as f64 / pages.iter().map(length).sum::<u64>() as f64
}

/// Processes of this machine in a group.
fn in_group(group: u32) -> impl Iterator<Item = u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(move |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name: state, parent, group.
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(2)) == Some(&group.to_string())
    })
}

impl Node {
    /// The one of a process of the node: what it has mapped of the node's memory, stack and heap included, is where that process has
    /// something, which is so for no other.
    pub fn outside(&self, pid: &str) -> Outside {
        self.wait("the process is told from others", Duration::from_secs(60), |node| {
            let inside: Vec<_> = ranges(&node.ok(&format!("cat /proc/{pid}/maps"))).collect();
            let part = |pid: u32| {
                let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
                let pages = maps.lines().filter(|line| line.contains("/lab-")).flat_map(ranges);
                let pages: Vec<_> = pages.filter(|page| page.start < TASK_END).collect();
                (!pages.is_empty()).then(|| (part_inside(&pages, &inside), pid))
            };
            let mut parts: Vec<_> = in_group(node.group()).filter_map(part).collect();
            parts.sort_by(|(one, _), (other, _)| other.total_cmp(one));
            match parts[..] {
                [(part, pid), (second, _), ..] if part > 0.9999 && second < 0.9999 => Ok(Outside { pid }),
                _ => Err(format!("{pid}: {:?}", &parts[..parts.len().min(5)])),
            }
        })
    }
}

impl Outside {
    /// CPU time that the machine has given it (`/proc/PID/schedstat`): the user code, and its stops at system calls and page faults, but
    /// not what the node's kernel did for it.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.pid);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}

/// CPU time of the agent, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// User code, with its stops, as this machine counts it.
    pub user: f64,
    /// The node's kernel for its process (stime of proc(5), in ticks of 10 ms).
    pub kernel: f64,
    /// Of its unit, as the node counts it.
    pub counted: f64,
}

impl Cpu {
    /// What it takes: [`Cpu::counted`] is that with all that User-Mode Linux takes beside.
    pub fn taken(self) -> f64 {
        self.user + self.kernel
    }

    /// What came since, for each of so many.
    pub fn since(self, before: Self, many: f64) -> Self {
        let each = |now: f64, then: f64| (now - then) / many;
        Self {
            user: each(self.user, before.user),
            kernel: each(self.kernel, before.kernel),
            counted: each(self.counted, before.counted),
        }
    }
}

impl Node {
    /// What the agent has taken so far; `outside` is its process, and its unit is one whose CPU time is counted.
    pub fn agent_cpu(&self, outside: &Outside) -> Cpu {
        let ticks = self.ok(&format!("cut -d' ' -f15 /proc/{}/stat", self.agent_pid()));
        let counted = self.ok("systemctl show -P CPUUsageNSec network-operator");
        let number = |text: String| text.trim().parse::<f64>().unwrap();
        Cpu { user: outside.cpu().as_secs_f64(), kernel: number(ticks) / 100.0, counted: number(counted) / 1e9 }
    }
}
