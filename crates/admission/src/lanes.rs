//! The lanes, and which request goes to which.

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

use super::{
    ProductEntry,
    batch::Runner,
    contended::{Bounds, Contended, NewLane},
    ticket::{Cause, Missing, Refusal, Row, Ticket},
};

/// How often the shared lane must find a row locked before its requests move. Another replica's batch is
/// over by the next try.
const MISSES_MAX: u8 = 3;
/// How often a request for several products may move from lane to lane, each time missing another row, before it
/// waits for all its rows in their order. Until then it never waits with a lock in hand.
const MOVES_MAX: u8 = 12;
/// The requests that wait for stuck rows together, as a multiple of those that may wait for one.
const STUCK_FACTOR: usize = 4;

/// The shared lane, the lanes of contended products, and the requests that wait for stuck rows.
pub(super) struct Lanes<P: ProductEntry> {
    pub(super) runner: Runner<P>,
    shared: RwLock<Option<mpsc::Sender<Ticket>>>,
    contended: Mutex<Contended>,
    /// The size of `contended`, so that a system without contention does not take its lock.
    contended_rows: AtomicUsize,
    /// Lanes of contended products wait for rows with a connection in hand, one after the other. They leave one
    /// to the shared lane and one to the look.
    waiting_connections: Semaphore,
    /// Wakes the look.
    pub(super) wake: Notify,
    /// Whether the shared lane has ended.
    pub(super) closed: AtomicBool,
    tasks: TaskTracker,
}

impl<P: ProductEntry> Lanes<P> {
    pub fn open(runner: Runner<P>) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(runner.settings.lane_depth);
        let connections = runner.store.admission_connections();
        let bounds = Bounds {
            row: runner.settings.lane_depth,
            stuck: runner.settings.lane_depth.saturating_mul(STUCK_FACTOR),
            lanes: runner.settings.own_lanes_max,
        };
        let lanes = Arc::new(Self {
            runner,
            shared: RwLock::new(Some(sender)),
            contended: Mutex::new(Contended::new(bounds)),
            contended_rows: AtomicUsize::new(0),
            waiting_connections: Semaphore::new(connections.saturating_sub(2).max(1)),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        });
        lanes.tasks.spawn(Arc::clone(&lanes).run_shared(receiver));
        lanes.tasks.spawn(Arc::clone(&lanes).run_looks());
        lanes
    }

    /// Refuses a demand for more than is known to be left. One with a key is not refused from
    /// memory: it may be the repeat of a request that was granted.
    pub fn refuse_sold_out(&self, ticket: &Ticket) -> Result<(), Refusal> {
        if ticket.details.key.is_some() {
            return Ok(());
        }
        self.runner.sold_out.check(&ticket.demand)
    }

    /// Puts a ticket into its lane.
    pub fn send(&self, ticket: Ticket) -> Result<(), Refusal> {
        let shared = self.shared.read();
        let Some(shared) = &*shared else { return Err(Refusal::ShuttingDown) };
        if self.contended_rows.load(Ordering::Relaxed) > 0 {
            let mut contended = self.contended.lock();
            let row = ticket.rows().find(|row| contended.has(row));
            if let Some(row) = row
                && !may_be_a_repeat(&ticket, row, &contended)
            {
                self.queued(1);
                return match contended.push(&row, ticket) {
                    None => Ok(()),
                    Some((_, refusal)) => {
                        self.taken(1);
                        Err(refusal)
                    }
                };
            }
        }
        self.queued(1);
        shared.try_send(ticket).map_err(|error| {
            self.taken(1);
            match error {
                mpsc::error::TrySendError::Full(_) => Refusal::Full,
                mpsc::error::TrySendError::Closed(_) => Refusal::ShuttingDown,
            }
        })
    }

    /// Counts tickets that are about to wait in a lane. Before they do, so that a lane that is quick to take
    /// them does not count below 0.
    pub(super) fn queued(&self, tickets: usize) {
        self.runner.metrics.lane_depth.add(i64::try_from(tickets).unwrap_or(i64::MAX));
    }

    /// Counts tickets that wait in their lane no longer.
    pub(super) fn taken(&self, tickets: usize) {
        self.runner.metrics.lane_depth.sub(i64::try_from(tickets).unwrap_or(i64::MAX));
    }

    /// The contended rows. What is changed there is told to the metrics, and wakes the look.
    pub(super) fn contended<T>(&self, change: impl FnOnce(&mut Contended) -> T) -> T {
        let mut contended = self.contended.lock();
        let changed = change(&mut contended);
        let rows = contended.len();
        self.contended_rows.store(rows, Ordering::Relaxed);
        self.runner.metrics.own_lanes.set(i64::try_from(rows).unwrap_or(i64::MAX));
        drop(contended);
        self.wake.notify_one();
        changed
    }

    /// When the next look is due, and how many rows are contended.
    pub(super) fn next_look(&self) -> (Option<Instant>, usize) {
        let contended = self.contended.lock();
        (contended.next_look(), contended.len())
    }

    async fn run_shared(self: Arc<Self>, mut receiver: mpsc::Receiver<Ticket>) {
        let batch_max = self.runner.settings.batch_max;
        let mut tickets = Vec::with_capacity(batch_max);
        loop {
            let missed = tickets.len();
            if tickets.is_empty() {
                if receiver.recv_many(&mut tickets, batch_max).await == 0 {
                    break;
                }
            } else {
                // Those that found their row locked go first, with what has come since.
                while tickets.len() < batch_max
                    && let Ok(ticket) = receiver.try_recv()
                {
                    tickets.push(ticket);
                }
            }
            self.taken(tickets.len() - missed);
            let missing = self.runner.run(&mut tickets, LockMode::Skip).await;
            if !missing.is_empty() {
                tickets = self.again_or_apart(missing).await;
            }
        }
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Of what the shared lane could not lock, gives back what it should try again. The rest goes to
    /// its row's place.
    async fn again_or_apart(self: &Arc<Self>, missing: Vec<Missing>) -> Vec<Ticket> {
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
            let Missing { ticket, row, cause } = &mut missing;
            ticket.misses = ticket.misses.saturating_add(1);
            let version = version_of(&seen, row);
            let before = match (*row, version) {
                (Row::Product(id), Some(version)) => ticket.seen.replace((id, version)),
                _ => None,
            };
            let may_be_over = *cause == Cause::Locked && !matches!(row, Row::Key(_));
            if may_be_over && ticket.misses < MISSES_MAX {
                again.push(missing.ticket);
            } else {
                let moves = before.is_some() && before != ticket.seen;
                self.enter(missing, version, moves);
            }
        }
        again
    }

    /// Puts a request to those that wait for the row that it misses.
    fn enter(self: &Arc<Self>, missing: Missing, version: Option<i64>, moves: bool) {
        self.queued(1);
        let (lane, refused) = self.contended(|contended| contended.enter(missing, version, moves));
        self.start(lane);
        if let Some((ticket, refusal)) = refused {
            self.taken(1);
            self.runner.refuse(ticket, refusal);
        }
    }

    pub(super) fn start(self: &Arc<Self>, lanes: impl IntoIterator<Item = NewLane>) {
        for lane in lanes {
            self.tasks.spawn(Arc::clone(self).run_own(lane));
        }
    }

    /// Takes requests that miss a row to its place, in a lane or in a look that did not expect that.
    pub(super) async fn elsewhere(self: &Arc<Self>, missing: Vec<Missing>) {
        let (missing, seen) = self.runner.existing(missing).await;
        for mut missing in missing {
            missing.ticket.misses = missing.ticket.misses.saturating_add(1);
            let version = version_of(&seen, &missing.row);
            self.enter(missing, version, false);
        }
    }

    async fn run_own(self: Arc<Self>, lane: NewLane) {
        let NewLane { product_id, mut requests } = lane;
        let batch_max = self.runner.settings.batch_max;
        let idle = self.runner.settings.own_lane_idle;
        let mut tickets = Vec::new();
        loop {
            match timeout(idle, requests.recv_many(&mut tickets, batch_max)).await {
                Ok(0) => return,
                Ok(count) => self.taken(count),
                Err(_idle) => {
                    if self.contended(|contended| contended.end_lane(product_id, &requests)) {
                        return;
                    }
                    continue;
                }
            }
            // Never closed, so this cannot fail; if it did, the batch would only be without its bound.
            let connection = self.waiting_connections.acquire().await;
            let missing = self.runner.run(&mut tickets, LockMode::WaitFor(product_id)).await;
            drop(connection);
            let (stuck, missing): (Vec<_>, Vec<_>) =
                missing.into_iter().partition(|missing| missing.row == Row::Product(product_id));
            self.move_on(missing).await;
            if !stuck.is_empty() {
                let stuck: Vec<_> = stuck.into_iter().map(|missing| missing.ticket).collect();
                self.queued(stuck.len());
                let left_over = self
                    .contended(|contended| contended.lane_stuck(product_id, stuck, &mut requests));
                self.taken(left_over.len());
                for (ticket, refusal) in left_over {
                    self.runner.refuse(ticket, refusal);
                }
                return;
            }
        }
    }

    /// Requests for several products that miss another row than their lane's.
    async fn move_on(self: &Arc<Self>, missing: Vec<Missing>) {
        let (on, tired): (Vec<_>, Vec<_>) = missing.into_iter().partition(|missing| {
            missing.ticket.misses < MOVES_MAX
                || !matches!(missing.row, Row::Product(_))
                || self.contended.lock().has_stuck(missing.ticket.rows())
        });
        self.elsewhere(on).await;
        for Missing { ticket, .. } in tired {
            let connection = self.waiting_connections.acquire().await;
            let missing = self.runner.run(&mut vec![ticket], LockMode::Wait).await;
            drop(connection);
            self.elsewhere(missing).await;
        }
    }

    /// Hands orders to the publisher that came through no lane.
    pub fn publish(&self, orders: impl Iterator<Item = (OrderId, Option<String>)>) {
        self.runner.outbox.send(orders);
    }

    /// Takes no more requests and waits until those in the lanes are answered.
    pub async fn close(&self) {
        self.shared.write().take();
        // The shared lane may still make rows contended until it has emptied its queue; lanes end by
        // themselves when they are idle, and no request waits for a stuck row for longer than it may.
        self.tasks.close();
        self.tasks.wait().await;
        self.runner.outbox.close().await;
    }
}

/// A request with a key that was granted before is answered by the shared lane, which looks its key up, whoever
/// holds its product's row.
fn may_be_a_repeat(ticket: &Ticket, row: Row, contended: &Contended) -> bool {
    ticket.details.key.is_some() && !matches!(row, Row::Key(_)) && contended.is_stuck(&row)
}

pub(super) fn version_of(seen: &SeenRows, row: &Row) -> Option<i64> {
    match row {
        Row::Product(id) => seen.products.get(id).copied(),
        Row::Key(_) | Row::Order(_) | Row::Hold(_) => None,
    }
}
