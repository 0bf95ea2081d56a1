//! What processes cost: CPU time and memory, as Linux counts them in `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// Ticks per second in `/proc/PID/stat`; the same on every Linux that anybody runs.
const TICKS_PER_S: u64 = 100;

/// A process, or one with all its children, under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// For people: "API", "PostgreSQL".
    pub name: &'static str,
    /// Its process id.
    pub pid: u32,
    /// PostgreSQL has a process for each connection: they count as one, and memory that they share
    /// counts once.
    pub with_children: bool,
}

/// CPU time, user and kernel: of watched processes, and of the whole machine.
#[derive(Clone, Debug)]
pub struct Usage {
    /// By name; processes of one name are added up.
    pub by_name: BTreeMap<&'static str, Duration>,
    machine: Duration,
    at: Instant,
}

impl Usage {
    /// Since each process began, and since the machine did.
    pub fn so_far(watched: &[Watched]) -> Self {
        let mut by_name = BTreeMap::new();
        for process in watched {
            let mut ticks = stat(process.pid).map_or(0, |stat| {
                stat.own_ticks + if process.with_children { stat.reaped_ticks } else { 0 }
            });
            if process.with_children {
                let children = children(process.pid);
                ticks += children.iter().filter_map(|pid| Some(stat(*pid)?.own_ticks)).sum::<u64>();
            }
            *by_name.entry(process.name).or_default() += duration(ticks);
        }
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let machine = duration(busy_ticks(&machine).unwrap_or(0));
        Self { by_name, machine, at: Instant::now() }
    }

    /// From then until now. With it comes the share of the processors, in per cent of all, that
    /// was taken by processes which are not watched, or by other machines on the same host: what
    /// disturbs a measurement.
    pub fn since(before: &Self, watched: &[Watched]) -> (BTreeMap<&'static str, Duration>, f64) {
        let mut now = Self::so_far(watched);
        for (name, time) in &mut now.by_name {
            *time = time.saturating_sub(before.by_name.get(name).copied().unwrap_or_default());
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let room = now.at.duration_since(before.at).as_secs_f64() * cores as f64;
        let ours: Duration = now.by_name.values().sum();
        let others = now.machine.saturating_sub(before.machine).saturating_sub(ours);
        (now.by_name, others.as_secs_f64() / room * 100.0)
    }
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_S)
}

/// Of all processors together: the first line of /proc/stat, see proc(5). Neither idle nor waiting
/// for the disk; with what the host gave to others.
fn busy_ticks(text: &str) -> Option<u64> {
    let fields: Vec<u64> = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    let [user, nice, system, _idle, _waiting, irq, softirq, stolen, ..] = fields.as_slice() else {
        return None;
    };
    Some(user + nice + system + irq + softirq + stolen)
}

/// CPU time of our own children that have ended.
pub fn ended_children() -> Duration {
    duration(stat(std::process::id()).map_or(0, |stat| stat.reaped_ticks))
}

/// Resident memory in MiB by name: the largest of the processes of one name. With children it is
/// the sum of proportional shares (PSS), else the resident set (RSS).
pub fn memory_mib(watched: &[Watched]) -> BTreeMap<&'static str, f64> {
    let mut largest = BTreeMap::new();
    for process in watched {
        let mib = if process.with_children {
            let own = std::iter::once(process.pid).chain(children(process.pid));
            own.filter_map(proportional_kib).sum::<u64>() as f64 / 1024.0
        } else {
            resident_mib(process.pid).unwrap_or(0.0)
        };
        let entry = largest.entry(process.name).or_insert(0.0_f64);
        *entry = entry.max(mib);
    }
    largest
}

/// The resident set of one process in MiB.
pub fn resident_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(kib_of(&status, "VmRSS:")? as f64 / 1024.0)
}

fn proportional_kib(pid: u32) -> Option<u64> {
    kib_of(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

/// From a line such as `VmRSS:     1234 kB`.
fn kib_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix(" kB")?.parse().ok()
}

struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    reaped_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// See proc(5). The name in the second field may hold spaces and brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    // Field 3 of the manual is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        own_ticks: field(14)? + field(15)?,
        reaped_ticks: field(16)? + field(17)?,
    })
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_the_right_ones() {
        let text = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 9 0";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.own_ticks, stat.reaped_ticks), (7, 30, 70));
        assert_eq!(busy_ticks("cpu  1 2 4 100 200 8 16 32 0 0\ncpu0 1 1\n"), Some(63));
        assert_eq!(kib_of("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2048));
    }

    #[test]
    fn work_shows_as_cpu_time_and_memory() {
        let own = [Watched { name: "test", pid: std::process::id(), with_children: true }];
        let before = Usage::so_far(&own);
        let mut memory = vec![0_u8; 32 * 1024 * 1024];
        let mut sum = 0_u64;
        while Usage::since(&before, &own).0["test"] < Duration::from_millis(50) {
            for byte in &mut memory {
                *byte = byte.wrapping_add(1);
                sum += u64::from(*byte);
            }
        }
        assert!(sum > 0);
        let (_, others) = Usage::since(&before, &[]);
        assert!(others > 0.0, "without a watch on us, our work is that of others");
        assert!(memory_mib(&own)["test"] > 32.0);
    }
}
