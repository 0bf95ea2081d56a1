//! The lanes, and how requests are assigned to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use holdfast_domain::OrderId;
use holdfast_store::{LockMode, SeenRows};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    ProductEntry,
    batch::Runner,
    contended_rows::{ContendedRows, ContentionBounds, NewLane, Push},
    decision::Refusal,
    needs::NeededRow,
    pending::{Cause, Missing, PendingRequest},
    stock_request::StockRequest,
};

/// How often the shared lane must find a row of a request locked before the request leaves the lane. Another replica's
/// batch has usually ended by the next try.
const MISSES_MAX: u8 = 3;
/// How often a request for several products may move between lanes, each time because of another missing row, before it
/// waits for all its rows in their order. Until then, it never waits while it holds a lock.
const MOVES_MAX: u8 = 12;
/// The most requests that wait for stuck rows in total, as a multiple of the limit for one row.
const STUCK_FACTOR: usize = 4;

/// The shared lane, the lanes of contended products, and the requests that wait for stuck rows.
pub(crate) struct Lanes<P: ProductEntry> {
    pub(crate) runner: Runner<P>,
    shared: RwLock<Option<mpsc::Sender<PendingRequest>>>,
    contended: Mutex<ContendedRows>,
    /// The number of contended rows, so that a system without contention does not need the lock.
    contended_rows: AtomicUsize,
    /// Limits the connections of lanes that wait for rows. One connection is left for the shared lane and one for the
    /// retries.
    waiting_connections: Semaphore,
    /// Wakes the retries.
    pub(crate) wake: Notify,
    /// Whether the shared lane has ended.
    pub(crate) closed: AtomicBool,
    tasks: TaskTracker,
}

impl<P: ProductEntry> Lanes<P> {
    pub fn open(runner: Runner<P>) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(runner.settings.lane_depth);
        let connections = runner.store.admission_connections();
        let bounds = ContentionBounds {
            row: runner.settings.lane_depth,
            stuck: runner.settings.lane_depth.saturating_mul(STUCK_FACTOR),
            lanes: runner.settings.own_lanes_max,
        };
        let lanes = Arc::new(Self {
            runner,
            shared: RwLock::new(Some(sender)),
            contended: Mutex::new(ContendedRows::new(bounds)),
            contended_rows: AtomicUsize::new(0),
            waiting_connections: Semaphore::new(connections.saturating_sub(2).max(1)),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        });
        lanes.tasks.spawn(Arc::clone(&lanes).run_shared(receiver));
        lanes.tasks.spawn(Arc::clone(&lanes).run_retries());
        lanes
    }

    /// Refuses a request for more than the known stock. A request with a key is not refused from memory, because it may
    /// repeat a granted one.
    pub fn refuse_sold_out(&self, request: &impl StockRequest) -> Result<(), Refusal> {
        if request.key().is_some() {
            return Ok(());
        }
        self.runner.sold_out.check(request)
    }

    /// Puts a request into its lane. Returns why it was not accepted.
    pub fn send(&self, mut request: PendingRequest) -> Result<(), Refusal> {
        let shared = self.shared.read();
        let Some(shared) = &*shared else { return Err(Refusal::ShuttingDown) };
        self.queued(1);
        if self.contended_rows.load(Ordering::Relaxed) > 0 {
            let mut contended = self.contended.lock();
            let row = request.needs().rows().find(|row| contended.has(row));
            if let Some(row) = row
                && !may_be_a_repeat(&request, row, &contended)
            {
                request = match contended.push(&row, request) {
                    Push::Waits => return Ok(()),
                    Push::Refused(_, refusal) => {
                        self.taken(1);
                        return Err(refusal);
                    }
                    Push::NotContended(request) => request,
                };
            }
        }
        shared.try_send(request).map_err(|error| {
            self.taken(1);
            match error {
                mpsc::error::TrySendError::Full(_) => Refusal::Full,
                mpsc::error::TrySendError::Closed(_) => Refusal::ShuttingDown,
            }
        })
    }

    /// Counts requests that are about to wait in a lane. This happens before they wait, so that the count is never
    /// negative.
    pub(crate) fn queued(&self, requests: usize) {
        self.runner.metrics.lane_depth.add(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Counts requests that have left their lane.
    pub(crate) fn taken(&self, requests: usize) {
        self.runner.metrics.lane_depth.sub(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Changes the contended rows, updates the metrics and wakes the retries.
    pub(crate) fn contended<T>(&self, change: impl FnOnce(&mut ContendedRows) -> T) -> T {
        let mut contended = self.contended.lock();
        let changed = change(&mut contended);
        let rows = contended.len();
        self.contended_rows.store(rows, Ordering::Relaxed);
        self.runner.metrics.own_lanes.set(i64::try_from(rows).unwrap_or(i64::MAX));
        drop(contended);
        self.wake.notify_one();
        changed
    }

    /// The time of the next retry, and the number of contended rows.
    pub(crate) fn next_retry(&self) -> (Option<Instant>, usize) {
        let contended = self.contended.lock();
        (contended.next_retry(), contended.len())
    }

    async fn run_shared(self: Arc<Self>, mut receiver: mpsc::Receiver<PendingRequest>) {
        let batch_max = self.runner.settings.batch_max;
        let mut requests = Vec::with_capacity(batch_max);
        loop {
            let missed = requests.len();
            if requests.is_empty() {
                if receiver.recv_many(&mut requests, batch_max).await == 0 {
                    break;
                }
            } else {
                // Requests that are retried come first, and then new ones.
                while requests.len() < batch_max
                    && let Ok(request) = receiver.try_recv()
                {
                    requests.push(request);
                }
            }
            self.taken(requests.len() - missed);
            let missing = self.runner.run(&mut requests, LockMode::Skip).await;
            if !missing.is_empty() {
                requests.extend(self.again_or_apart(missing).await);
            }
        }
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Of the requests whose rows the shared lane could not lock, returns those that it should retry. The others wait
    /// for their rows.
    async fn again_or_apart(self: &Arc<Self>, missing: Vec<Missing>) -> Vec<PendingRequest> {
        let (known, new): (Vec<_>, Vec<_>) = {
            let contended = self.contended.lock();
            missing.into_iter().partition(|missing| contended.has(&missing.row))
        };
        for missing in known {
            self.enter(missing, None, false);
        }
        let (new, seen) = self.runner.existing(new).await;
        let mut again = Vec::new();
        for mut missing in new {
            let Missing { request, row, cause } = &mut missing;
            request.misses = request.misses.saturating_add(1);
            let version = version_of(&seen, row);
            let before = match (*row, version) {
                (NeededRow::Product(id), Some(version)) => request.seen.replace((id, version)),
                _ => None,
            };
            let may_be_over = *cause == Cause::Locked && !matches!(row, NeededRow::Key(_));
            if may_be_over && request.misses < MISSES_MAX {
                again.push(missing.request);
            } else {
                let changes = before.is_some() && before != request.seen;
                self.enter(missing, version, changes);
            }
        }
        again
    }

    /// Lets a request wait for its missing row.
    fn enter(self: &Arc<Self>, missing: Missing, version: Option<i64>, changes: bool) {
        self.queued(1);
        let (lane, refused) =
            self.contended(|contended| contended.enter(missing, version, changes));
        self.start(lane);
        self.refuse_queued(refused);
    }

    /// Refuses requests that were counted as waiting.
    pub(crate) fn refuse_queued(
        &self,
        refused: impl IntoIterator<Item = (PendingRequest, Refusal)>,
    ) {
        for (request, refusal) in refused {
            self.taken(1);
            request.refuse(refusal);
        }
    }

    pub(crate) fn start(self: &Arc<Self>, lanes: impl IntoIterator<Item = NewLane>) {
        for lane in lanes {
            self.tasks.spawn(Arc::clone(self).run_own(lane));
        }
    }

    /// Lets requests of a lane or a retry wait for their other missing rows.
    pub(crate) async fn elsewhere(self: &Arc<Self>, missing: Vec<Missing>) {
        let (missing, seen) = self.runner.existing(missing).await;
        for mut missing in missing {
            missing.request.misses = missing.request.misses.saturating_add(1);
            let version = version_of(&seen, &missing.row);
            self.enter(missing, version, false);
        }
    }

    async fn run_own(self: Arc<Self>, lane: NewLane) {
        let NewLane { product_id, mut requests } = lane;
        let batch_max = self.runner.settings.batch_max;
        let idle = self.runner.settings.own_lane_idle;
        let mut batch = Vec::new();
        loop {
            match timeout(idle, requests.recv_many(&mut batch, batch_max)).await {
                Ok(0) => return,
                Ok(count) => self.taken(count),
                Err(_idle) => {
                    if self.contended(|contended| contended.end_lane(product_id, &requests)) {
                        return;
                    }
                    continue;
                }
            }
            // The channel is never closed, so this cannot fail.
            let connection = self.waiting_connections.acquire().await;
            let missing = self.runner.run_to_end(&mut batch, LockMode::WaitFor(product_id)).await;
            drop(connection);
            let (stuck, missing): (Vec<_>, Vec<_>) = missing
                .into_iter()
                .partition(|missing| missing.row == NeededRow::Product(product_id));
            self.move_on(missing).await;
            if !stuck.is_empty() {
                let stuck: Vec<_> = stuck.into_iter().map(|missing| missing.request).collect();
                self.queued(stuck.len());
                let refused = self
                    .contended(|contended| contended.lane_stuck(product_id, stuck, &mut requests));
                self.refuse_queued(refused);
                return;
            }
        }
    }

    /// Lets requests for several products wait for missing rows other than their lane's.
    async fn move_on(self: &Arc<Self>, missing: Vec<Missing>) {
        let (on, tired): (Vec<_>, Vec<_>) = missing.into_iter().partition(|missing| {
            missing.request.misses < MOVES_MAX
                || !matches!(missing.row, NeededRow::Product(_))
                || self.contended.lock().has_stuck(missing.request.needs().rows())
        });
        self.elsewhere(on).await;
        for Missing { request, .. } in tired {
            let connection = self.waiting_connections.acquire().await;
            let missing = self.runner.run_to_end(&mut vec![request], LockMode::Wait).await;
            drop(connection);
            self.elsewhere(missing).await;
        }
    }

    /// Publishes orders that are pending again.
    pub fn publish(&self, orders: impl Iterator<Item = (OrderId, Option<String>)>) {
        self.runner.outbox.send(orders);
    }

    /// Accepts no more requests, and waits until those in the lanes are answered and published.
    pub async fn close(&self) {
        self.shared.write().take();
        // The shared lane may still make rows contended until its queue is empty. Lanes end when they are idle, and no
        // request waits for a stuck row for longer than its limit.
        self.tasks.close();
        self.tasks.wait().await;
        self.runner.outbox.close().await;
    }
}

/// The shared lane reads the key and answers a request that was granted before, even if the product's row is stuck.
fn may_be_a_repeat(request: &PendingRequest, row: NeededRow, contended: &ContendedRows) -> bool {
    request.key().is_some() && !matches!(row, NeededRow::Key(_)) && contended.is_stuck(&row)
}

pub(crate) fn version_of(seen: &SeenRows, row: &NeededRow) -> Option<i64> {
    match row {
        NeededRow::Product(id) => seen.products.get(id).copied(),
        NeededRow::Key(_) | NeededRow::Order(_) | NeededRow::Hold(_) => None,
    }
}
