//! The CPU time and the memory of processes, from `/proc`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use procfs::process::{Process, Stat, all_processes};
use procfs::{CurrentSI as _, KernelStats};

/// A process under a name, possibly with its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The name in reports, such as "API" or "PostgreSQL".
    pub name: &'static str,
    /// Its process id.
    pub pid: u32,
    /// PostgreSQL has a process for each connection. They count as one, and shared memory counts once.
    pub with_children: bool,
}

/// The CPU time (user and kernel) of watched processes, and of the whole machine.
#[derive(Clone, Debug)]
pub struct Usage {
    /// By name; processes with the same name are added up.
    pub by_name: BTreeMap<&'static str, Duration>,
    machine: Duration,
    at: Instant,
}

impl Usage {
    /// Since the start of each process, and of the machine.
    pub fn so_far(watched: &[Watched]) -> Self {
        let mut by_name = BTreeMap::new();
        for process in watched {
            let own = stat(process.pid).map_or(0, |stat| {
                own_ticks(&stat) + if process.with_children { reaped_ticks(&stat) } else { 0 }
            });
            let children = if process.with_children { children(process.pid) } else { Vec::new() };
            let of_children: u64 = children.iter().map(own_ticks).sum();
            *by_name.entry(process.name).or_default() += duration(own + of_children);
        }
        Self { by_name, machine: busy(), at: Instant::now() }
    }

    /// The difference from `before` to now. Also returns the percentage of all processors that was used by processes
    /// that are not watched, or by other machines on the same host, because it disturbs a measurement.
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

/// All processors together, without idle time and waits for the disk, and with the time that the host gave to other
/// machines.
fn busy() -> Duration {
    let Ok(KernelStats { total, .. }) = KernelStats::current() else { return Duration::ZERO };
    let interrupts = [total.irq_ms(), total.softirq_ms(), total.steal_ms()];
    let interrupts: u64 = interrupts.into_iter().flatten().sum();
    Duration::from_millis(total.user_ms() + total.nice_ms() + total.system_ms() + interrupts)
}

/// The CPU time of children of this process that have ended.
pub fn ended_children() -> Duration {
    duration(stat(std::process::id()).map_or(0, |stat| reaped_ticks(&stat)))
}

/// Resident memory in MiB by name: the largest process with the name. With children, it is the sum of the proportional
/// set sizes (PSS), otherwise the resident set size (RSS).
pub fn memory_mib(watched: &[Watched]) -> BTreeMap<&'static str, f64> {
    let mut largest = BTreeMap::new();
    for process in watched {
        let mib = if process.with_children {
            let children = children(process.pid).into_iter().map(|stat| stat.pid.unsigned_abs());
            std::iter::once(process.pid).chain(children).filter_map(proportional_mib).sum()
        } else {
            resident_mib(process.pid).unwrap_or(0.0)
        };
        let entry = largest.entry(process.name).or_insert(0.0_f64);
        *entry = entry.max(mib);
    }
    largest
}

/// The resident set size of a process in MiB.
pub fn resident_mib(pid: u32) -> Option<f64> {
    Some(process(pid)?.status().ok()?.vmrss? as f64 / 1024.0)
}

fn proportional_mib(pid: u32) -> Option<f64> {
    let maps = process(pid)?.smaps_rollup().ok()?.memory_map_rollup;
    let bytes: u64 = maps.iter().filter_map(|map| map.extension.map.get("Pss")).sum();
    Some(bytes as f64 / 1024.0 / 1024.0)
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

fn stat(pid: u32) -> Option<Stat> {
    process(pid)?.stat().ok()
}

fn own_ticks(stat: &Stat) -> u64 {
    stat.utime + stat.stime
}

/// The CPU time of children that have ended and were waited for.
fn reaped_ticks(stat: &Stat) -> u64 {
    (stat.cutime + stat.cstime).unsigned_abs()
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / procfs::ticks_per_second())
}

fn children(parent: u32) -> Vec<Stat> {
    let stats = all_processes().into_iter().flatten().flatten().filter_map(|it| it.stat().ok());
    stats.filter(|stat| stat.ppid.unsigned_abs() == parent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_as_cpu_time_and_memory() {
        let own = [Watched { name: "test", pid: std::process::id(), with_children: true }];
        let before = Usage::so_far(&own);
        let mut memory = vec![0_u8; 32 * 1024 * 1024];
        let mut sum = 0_u64;
        loop {
            for byte in &mut memory {
                *byte = byte.wrapping_add(1);
                sum += u64::from(*byte);
            }
            if Usage::since(&before, &own).0["test"] >= Duration::from_millis(50) {
                break;
            }
        }
        assert!(sum > 0);
        let (_, others) = Usage::since(&before, &[]);
        assert!(others > 0.0, "if this process is not watched, it counts as another");
        assert!(memory_mib(&own)["test"] > 32.0);
    }
}
