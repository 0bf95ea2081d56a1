//! The rows that other transactions have locked, and the requests that wait for them.
//!
//! A row is in one of two states:
//! - [`Contended::Lane`]: other batches take turns on it (its version changes). Its lane waits in the database, for as
//!   long as a batch needs.
//! - [`Contended::Stuck`]: its version does not change. Its requests wait here, without a connection, and are retried
//!   from time to time (`retries.rs`).
//!
//! This module only holds data and never waits.

mod retry;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use holdfast_domain::ProductId;
use tokio::sync::mpsc;

pub(crate) use retry::DueRetry;

use crate::{
    decision::Refusal,
    needs::NeededRow,
    pending::{Cause, Missing, PendingRequest},
};

/// The pause before the first retry for a row.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The limits of waiting requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentionBounds {
    /// The most requests that wait for one row.
    pub row: usize,
    /// The most requests that wait for stuck rows together.
    pub stuck: usize,
    /// The most lanes.
    pub lanes: usize,
}

/// How the requests for a contended row wait.
enum Contended {
    Lane(mpsc::Sender<PendingRequest>),
    Stuck(StuckRow),
}

struct StuckRow {
    queue: VecDeque<PendingRequest>,
    /// The version of the row at the last retry.
    version: Option<i64>,
    since: Instant,
    retry_at: Instant,
    pause: Duration,
    /// The number of its requests that are being retried. They count as waiting.
    retrying: usize,
    /// Whether the last retry got the row, so that all of its requests are retried next.
    free: bool,
    doubt: Doubt,
    logged: bool,
}

impl StuckRow {
    fn len(&self) -> usize {
        self.queue.len() + self.retrying
    }
}

impl Contended {
    /// The number of requests that wait here without a connection and are not being retried.
    fn stuck(&self) -> usize {
        match self {
            Self::Lane(_) => 0,
            Self::Stuck(stuck) => stuck.queue.len(),
        }
    }
}

/// Whether a write of the row's requests waited for an unknown lock. Such a row is retried alone, so that it does not
/// delay others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// The write of a whole batch waited.
    Batch,
    /// The write of only this row's requests waited.
    Own,
}

/// A request that is not accepted, and why.
pub(crate) type RefusedRequest = (PendingRequest, Refusal);

/// The result of adding a request to the queue of a row.
pub(crate) enum Push {
    Waits,
    Refused(PendingRequest, Refusal),
    /// The row is not contended.
    NotContended(PendingRequest),
}

/// A lane that must be started.
pub(crate) struct NewLane {
    pub product_id: ProductId,
    pub requests: mpsc::Receiver<PendingRequest>,
}

/// See the module documentation.
pub(crate) struct ContendedRows {
    bounds: ContentionBounds,
    rows: HashMap<NeededRow, Contended>,
    lanes: usize,
    stuck: usize,
}

impl ContendedRows {
    pub fn new(bounds: ContentionBounds) -> Self {
        Self { bounds, rows: HashMap::new(), lanes: 0, stuck: 0 }
    }

    /// The number of contended rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn has(&self, row: &NeededRow) -> bool {
        self.rows.contains_key(row)
    }

    pub fn is_stuck(&self, row: &NeededRow) -> bool {
        matches!(self.rows.get(row), Some(Contended::Stuck(_)))
    }

    /// Whether one of these rows is stuck.
    pub fn has_stuck(&self, mut rows: impl Iterator<Item = NeededRow>) -> bool {
        rows.any(|row| self.is_stuck(&row))
    }

    /// Adds a request to the queue of a contended row.
    pub fn push(&mut self, row: &NeededRow, request: PendingRequest) -> Push {
        match self.rows.get_mut(row) {
            Some(Contended::Lane(lane)) => match lane.try_send(request) {
                Ok(()) => Push::Waits,
                Err(mpsc::error::TrySendError::Full(request)) => {
                    Push::Refused(request, Refusal::Full)
                }
                Err(mpsc::error::TrySendError::Closed(request)) => {
                    Push::Refused(request, Refusal::ShuttingDown)
                }
            },
            Some(Contended::Stuck(stuck)) => {
                if self.stuck >= self.bounds.stuck || stuck.len() >= self.bounds.row {
                    return Push::Refused(request, Refusal::Full);
                }
                self.stuck += 1;
                stuck.queue.push_back(request);
                Push::Waits
            }
            None => Push::NotContended(request),
        }
    }

    /// Adds a request to the queue of its missing row, which becomes contended. If the row's version `changes`, it gets
    /// a lane, which must be started.
    pub fn enter(
        &mut self,
        Missing { request, row, cause }: Missing,
        version: Option<i64>,
        changes: bool,
    ) -> (Option<NewLane>, Option<RefusedRequest>) {
        let request = match self.push(&row, request) {
            Push::Waits => return (None, None),
            Push::Refused(request, refusal) => return (None, Some((request, refusal))),
            Push::NotContended(request) => request,
        };
        if let (NeededRow::Product(product_id), true) =
            (row, changes && self.lanes < self.bounds.lanes)
        {
            let (lane, refused) = self.open_lane(product_id, [request]);
            return (Some(lane), refused.into_iter().next());
        }
        if self.stuck >= self.bounds.stuck || self.bounds.row == 0 {
            return (None, Some((request, Refusal::Full)));
        }
        self.stuck += 1;
        let now = Instant::now();
        let stuck = StuckRow {
            queue: VecDeque::from([request]),
            version,
            since: now,
            retry_at: now + PAUSE_MIN,
            pause: PAUSE_MIN,
            retrying: 0,
            free: false,
            logged: false,
            doubt: if cause == Cause::Write { Doubt::Batch } else { Doubt::None },
        };
        self.rows.insert(row, Contended::Stuck(stuck));
        (None, None)
    }

    /// Opens a lane with these requests. Returns those for which it has no room.
    fn open_lane(
        &mut self,
        product_id: ProductId,
        first: impl IntoIterator<Item = PendingRequest>,
    ) -> (NewLane, Vec<RefusedRequest>) {
        let (sender, requests) = mpsc::channel(self.bounds.row.max(1));
        let refused = first
            .into_iter()
            .filter_map(|request| sender.try_send(request).err())
            .map(|error| (error.into_inner(), Refusal::Full))
            .collect();
        self.rows.insert(NeededRow::Product(product_id), Contended::Lane(sender));
        self.lanes += 1;
        (NewLane { product_id, requests }, refused)
    }

    /// Ends the lane, unless it has requests. Returns whether it ended.
    pub fn end_lane(
        &mut self,
        product_id: ProductId,
        requests: &mpsc::Receiver<PendingRequest>,
    ) -> bool {
        let ends = requests.is_empty();
        if ends && self.rows.remove(&NeededRow::Product(product_id)).is_some() {
            self.lanes -= 1;
        }
        ends
    }

    /// Moves the requests of a lane, `missing` first, to the queue of its row, because the row is stuck. Returns those
    /// for which there is no room.
    pub fn lane_stuck(
        &mut self,
        product_id: ProductId,
        missing: Vec<PendingRequest>,
        requests: &mut mpsc::Receiver<PendingRequest>,
    ) -> Vec<RefusedRequest> {
        if self.rows.remove(&NeededRow::Product(product_id)).is_some() {
            self.lanes -= 1;
        }
        let queued = std::iter::from_fn(|| requests.try_recv().ok());
        let mut left_over = Vec::new();
        for request in missing.into_iter().chain(queued) {
            let missing =
                Missing { request, row: NeededRow::Product(product_id), cause: Cause::Locked };
            if let (_, Some(refused)) = self.enter(missing, None, false) {
                left_over.push(refused);
            }
        }
        left_over
    }
}
