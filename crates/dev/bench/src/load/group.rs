//! A group's part on one thread of the generator.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::outcome::{GroupReport, TICK};
use super::requests::Requests;
use super::schedule::Schedule;
use super::{ClientGroup, LoadPlan, Pace};

/// A group's part on this thread.
pub(super) struct ThreadGroup {
    pub(super) requests: Arc<Requests>,
    pub(super) schedule: Option<Schedule>,
    /// Open loop: connections with nothing to do, the one idle for longest first.
    pub(super) free: VecDeque<usize>,
    /// Number of the next pick.
    pub(super) cursor: usize,
    /// The last idempotency key; each thread has keys of its own.
    pub(super) keys: u64,
    pub(super) report: GroupReport,
}

/// No two threads, groups or runs send the same key.
fn keys_from(group: usize, thread: usize) -> u64 {
    static RUNS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    (run << 48) + ((group as u64) << 44) + ((thread as u64) << 36)
}

impl ThreadGroup {
    /// Starts the part of a group that has these connections.
    pub(super) fn new(
        plan: &LoadPlan,
        (number, group): (usize, &ClientGroup),
        (thread, threads): (usize, usize),
        connections: Range<usize>,
    ) -> Self {
        let time = (plan.warm_up + plan.measured).as_nanos();
        let share = connections.len() as f64 / group.connections as f64;
        let schedule = match group.pace {
            Pace::Closed => None,
            Pace::Open { per_second, patience } => {
                Some(Schedule::new(per_second * share, patience, time as u64))
            }
        };
        Self {
            requests: Arc::clone(&group.requests),
            free: if schedule.is_some() { connections.collect() } else { VecDeque::new() },
            schedule,
            cursor: Requests::offset(thread, threads),
            keys: keys_from(number, thread),
            report: GroupReport::new(
                group.name,
                plan.measured,
                time.div_ceil(TICK.as_nanos()) as usize,
            ),
        }
    }

    /// Takes the next request that was due until the end of the run; returns its time.
    pub(super) fn take_due(&mut self) -> Option<u64> {
        let schedule = self.schedule.as_mut()?;
        let due_ns = schedule.next_due(u64::MAX)?;
        schedule.take();
        Some(due_ns)
    }
}
