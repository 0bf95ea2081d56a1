//! Retries of the requests for stuck rows.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use holdfast_domain::ProductId;

use super::{Contended, ContendedRows, Doubt, NewLane, PAUSE_MIN, RefusedRequest};
use crate::{
    needs::NeededRow,
    pending::{Cause, Missing, PendingRequest},
};

/// The longest pause between two retries for a row.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A row that has been stuck for this long is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(1);

/// The requests of a retry.
#[derive(Default)]
pub(crate) struct DueRetry {
    pub rows: Vec<NeededRow>,
    pub requests: Vec<PendingRequest>,
    /// Requests that have waited for too long, or whose callers have disconnected.
    pub late: Vec<PendingRequest>,
    /// Rows that have been stuck for [`LOGGED_AFTER`], once each.
    pub to_log: Vec<NeededRow>,
}

/// The result of a retry.
#[derive(Default)]
pub struct RetryResult {
    /// Lanes that must be started.
    pub lanes: Vec<NewLane>,
    /// How long the rows that are now free were stuck.
    pub free: Vec<Duration>,
    /// Requests that miss a row that was not retried.
    pub elsewhere: Vec<Missing>,
    pub refused: Vec<RefusedRequest>,
}

impl ContendedRows {
    /// The time of the next retry.
    pub fn next_retry(&self) -> Option<Instant> {
        let retries = self.rows.values().filter_map(|row| match row {
            Contended::Stuck(stuck) if stuck.retrying == 0 => Some(stuck.retry_at),
            _ => None,
        });
        retries.min()
    }

    /// Takes the requests for a retry of all rows that are due at `now`, at most `max`. If a row was not free at the
    /// last retry, only its first request is taken.
    pub fn take_due(
        &mut self,
        now: Instant,
        max: usize,
        is_late: impl Fn(&PendingRequest) -> bool,
    ) -> DueRetry {
        let mut due = DueRetry::default();
        let mut rows: Vec<_> = self
            .rows
            .iter_mut()
            .filter_map(|(row, contended)| match contended {
                Contended::Stuck(stuck) if stuck.retrying == 0 && stuck.retry_at <= now => {
                    while let Some(request) = stuck
                        .queue
                        .pop_front_if(|request| request.is_abandoned() || is_late(request))
                    {
                        self.stuck -= 1;
                        due.late.push(request);
                    }
                    let stuck_for = now.saturating_duration_since(stuck.since);
                    if stuck_for > LOGGED_AFTER && !std::mem::replace(&mut stuck.logged, true) {
                        due.to_log.push(*row);
                    }
                    Some((stuck.retry_at, stuck.free, stuck.doubt != Doubt::None, *row))
                }
                _ => None,
            })
            .collect();
        rows.sort_unstable_by_key(|(retry_at, ..)| *retry_at);
        // Doubtful rows alternate with the others, each alone.
        match rows.first() {
            Some((.., true, _)) => rows.truncate(1),
            _ => rows.retain(|(_, _, in_doubt, _)| !in_doubt),
        }
        rows.sort_by_key(|(_, free, ..)| *free);
        for (.., row) in rows {
            let Some(Contended::Stuck(stuck)) = self.rows.get_mut(&row) else { continue };
            if stuck.queue.is_empty() {
                self.rows.remove(&row);
                continue;
            }
            let room = max.saturating_sub(due.requests.len());
            let count = if stuck.free { stuck.queue.len() } else { 1 }.min(room);
            if count == 0 {
                continue;
            }
            due.requests.extend(stuck.queue.drain(..count));
            stuck.retrying = count;
            due.rows.push(row);
        }
        due.requests.sort_by_key(|request| request.arrived);
        due
    }

    /// Puts back the requests of a retry that still miss their row, in their order, and updates the retried rows.
    /// `versions` are those of the rows that are still locked.
    pub fn retried(
        &mut self,
        rows: &[NeededRow],
        missing: Vec<Missing>,
        versions: impl Fn(&NeededRow) -> Option<i64>,
    ) -> RetryResult {
        let now = Instant::now();
        let mut result = RetryResult::default();
        let mut causes: HashMap<NeededRow, Cause> = HashMap::new();
        let retried: HashSet<_> = rows.iter().collect();
        for missing in missing.into_iter().rev() {
            let contended = retried.contains(&missing.row).then(|| self.rows.get_mut(&missing.row));
            if let Some(Some(Contended::Stuck(stuck))) = contended {
                stuck.queue.push_front(missing.request);
                causes.insert(missing.row, missing.cause);
            } else {
                result.elsewhere.push(missing);
            }
        }
        result.elsewhere.reverse();
        self.stuck = self.rows.values().map(Contended::stuck).sum();
        let mut doubt_is_over = false;
        for row in rows {
            let Some(Contended::Stuck(stuck)) = self.rows.get_mut(row) else { continue };
            stuck.retrying = 0;
            let Some(cause) = causes.get(row) else {
                doubt_is_over |= stuck.doubt != Doubt::None;
                stuck.doubt = Doubt::None;
                stuck.free = true;
                stuck.retry_at = now;
                stuck.pause = PAUSE_MIN;
                result.free.push(now.saturating_duration_since(stuck.since));
                stuck.since = now;
                if stuck.queue.is_empty() {
                    self.rows.remove(row);
                }
                continue;
            };
            let version = versions(row);
            let changed = version.is_some() && stuck.version.is_some() && version != stuck.version;
            stuck.free = false;
            stuck.doubt = match (cause, rows.len()) {
                (Cause::Locked, _) => Doubt::None,
                (Cause::Write, 1) => Doubt::Own,
                (Cause::Write, _) => Doubt::Batch,
            };
            stuck.version = version.or(stuck.version);
            stuck.pause = (stuck.pause * 2).min(PAUSE_MAX);
            stuck.retry_at = now + stuck.pause;
            if let (NeededRow::Product(product_id), true) =
                (row, changed && self.lanes < self.bounds.lanes)
            {
                self.promote(*product_id, &mut result);
            }
        }
        if doubt_is_over {
            for contended in self.rows.values_mut() {
                if let Contended::Stuck(stuck) = contended
                    && stuck.doubt == Doubt::Batch
                {
                    stuck.doubt = Doubt::None;
                }
            }
        }
        result
    }

    /// Opens a lane for a stuck row whose version changes.
    fn promote(&mut self, product_id: ProductId, result: &mut RetryResult) {
        let row = NeededRow::Product(product_id);
        let Some(Contended::Stuck(stuck)) = self.rows.remove(&row) else { return };
        self.stuck -= stuck.queue.len();
        let (lane, refused) = self.open_lane(product_id, stuck.queue);
        result.lanes.push(lane);
        result.refused.extend(refused);
    }
}
