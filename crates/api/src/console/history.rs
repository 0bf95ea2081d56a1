//! The last five minutes of this process, in a fixed amount of memory.

use std::collections::VecDeque;

use holdfast_admission::{AdmissionCounts, Refusal};
use holdfast_telemetry::metrics::Buckets;
use tokio::time::Instant;

use super::system::QueueNumbers;

/// The number of points: one per second.
pub const POINTS: usize = 300;
/// The number of seconds over which current rates and waiting times are measured.
pub const WINDOW: usize = 5;
const REASONS: usize = Refusal::REASONS.len();

/// The last five minutes as points.
#[derive(Default)]
pub struct ConsoleHistory {
    points: VecDeque<HistoryPoint>,
    /// The counts of the last seconds, oldest first.
    counts: VecDeque<(Instant, AdmissionCounts)>,
}

/// A point of about one second.
#[derive(Clone, Debug)]
pub struct HistoryPoint {
    /// The time at its end.
    pub at: Instant,
    /// The duration in seconds.
    pub seconds: f64,
    /// Orders that were accepted.
    pub accepted: u64,
    /// Orders that were refused, by reason.
    pub refused: [u64; REASONS],
    /// Admission in the last [`WINDOW`] points.
    pub admission: AdmissionWaits,
    /// The queue; `None` if it was unknown.
    pub queue: Option<QueueNumbers>,
}

/// Waiting times in milliseconds, and the size of batches. `None` if there was no batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmissionWaits {
    pub waiting: i64,
    pub locked_rows: i64,
    pub lane: WaitQuantiles,
    pub lock: WaitQuantiles,
    pub locked_row: WaitQuantiles,
    pub commit: WaitQuantiles,
    pub batch: Option<f64>,
    pub largest_batch: Option<f64>,
}

/// The 50th and the 99th percentile.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitQuantiles {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

impl WaitQuantiles {
    fn milliseconds(of: &Buckets) -> Self {
        let quantile = |part| of.quantile(part).map(|seconds| seconds * 1000.0);
        Self { p50: quantile(0.5), p99: quantile(0.99) }
    }
}

impl AdmissionWaits {
    fn between(earlier: &AdmissionCounts, now: &AdmissionCounts) -> Self {
        let since = |of: fn(&AdmissionCounts) -> &Buckets| of(now).since(of(earlier));
        let quantiles = |of| WaitQuantiles::milliseconds(&since(of));
        let batches = since(|counts| &counts.batch_size);
        Self {
            waiting: now.waiting,
            locked_rows: now.locked_rows,
            lane: quantiles(|counts| &counts.lane_wait),
            lock: quantiles(|counts| &counts.lock_wait_shared),
            locked_row: quantiles(|counts| &counts.lock_wait_own),
            commit: quantiles(|counts| &counts.commit),
            batch: batches.mean(),
            largest_batch: batches.quantile(1.0),
        }
    }
}

impl ConsoleHistory {
    /// Adds the current counts. The first call makes no point, because there is nothing to compare with.
    pub fn push(&mut self, now: Instant, counts: AdmissionCounts, queue: Option<QueueNumbers>) {
        if let (Some((_, oldest)), Some((before, last))) = (self.counts.front(), self.counts.back())
        {
            let mut refused = [0; REASONS];
            for (index, slot) in refused.iter_mut().enumerate() {
                *slot = counts.refused[index].1.saturating_sub(last.refused[index].1);
            }
            let point = HistoryPoint {
                at: now,
                seconds: (now - *before).as_secs_f64(),
                accepted: counts.accepted.saturating_sub(last.accepted),
                refused,
                admission: AdmissionWaits::between(oldest, &counts),
                queue,
            };
            if self.points.len() == POINTS {
                self.points.pop_front();
            }
            self.points.push_back(point);
        }
        if self.counts.len() == WINDOW {
            self.counts.pop_front();
        }
        self.counts.push_back((now, counts));
    }

    /// The points, oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &HistoryPoint> + Clone {
        self.points.iter()
    }

    pub fn last(&self) -> Option<&HistoryPoint> {
        self.points.back()
    }

    /// Orders accepted and refused per second, in the last [`WINDOW`] points; `None` before the first.
    #[allow(clippy::cast_precision_loss)] // counts of seconds are far below 2^53
    pub fn rates(&self) -> Option<(f64, f64)> {
        let latest = || self.points.iter().rev().take(WINDOW);
        let seconds: f64 = latest().map(|point| point.seconds).sum();
        let accepted: u64 = latest().map(|point| point.accepted).sum();
        let refused: u64 = latest().flat_map(|point| point.refused).sum();
        (seconds > 0.0).then(|| (accepted as f64 / seconds, refused as f64 / seconds))
    }

    /// Refused orders of all points by reason, most frequent first; without reasons that did not occur.
    pub fn refused(&self) -> Vec<(usize, u64)> {
        let mut refused: Vec<_> = (0..REASONS)
            .map(|reason| (reason, self.points.iter().map(|point| point.refused[reason]).sum()))
            .filter(|(_, count): &(usize, u64)| *count > 0)
            .collect();
        refused.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
        refused
    }
}
