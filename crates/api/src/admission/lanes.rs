//! The lanes, and which order goes to which.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use holdfast_domain::{OrderId, ProductId};
use holdfast_store::LockMode;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::{
    batch::Runner,
    ticket::{Missing, Refusal, Ticket},
};

/// How often the shared lane must find an order's row locked before its product gets a lane of its
/// own. Another replica's batch is over by the next try, and would otherwise leave a lane behind
/// for each product that the two happened to meet at.
const MISSES_MAX: u8 = 3;
/// How often an order of several lines may move from lane to lane, each time missing another row, before it
/// waits for all its rows in their order. Until then it never waits with a lock in hand, so that a
/// row that stays locked stalls nobody else.
const MOVES_MAX: u8 = 12;

/// The shared lane and the lanes of contended products.
pub(super) struct Lanes {
    runner: Runner,
    shared: RwLock<Option<mpsc::Sender<Ticket>>>,
    own: RwLock<HashMap<ProductId, mpsc::Sender<Ticket>>>,
    /// The size of `own`, so that a system without contention does not take its lock.
    own_count: AtomicUsize,
    /// Own lanes wait for rows with a connection in hand. They never get the last one, so that
    /// locked rows cannot stop the shared lane.
    own_connections: Semaphore,
    tasks: TaskTracker,
}

impl Lanes {
    pub fn open(runner: Runner) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(runner.settings.lane_depth);
        let connections = runner.store.admission_connections();
        let lanes = Arc::new(Self {
            runner,
            shared: RwLock::new(Some(sender)),
            own: RwLock::default(),
            own_count: AtomicUsize::new(0),
            own_connections: Semaphore::new(connections.saturating_sub(1).max(1)),
            tasks: TaskTracker::new(),
        });
        lanes.tasks.spawn(Arc::clone(&lanes).run_shared(receiver));
        lanes
    }

    /// Refuses a demand for more than is known to be left. One with a key is not refused from
    /// memory: it may be the repeat of a request that was granted.
    pub fn refuse_sold_out(&self, ticket: &Ticket) -> Result<(), Refusal> {
        if ticket.details.key.is_some() {
            return Ok(());
        }
        self.runner
            .sold_out
            .check(&ticket.demand)
            .inspect_err(|refusal| self.runner.metrics.refused(*refusal))
    }

    /// Puts a ticket into its lane.
    pub fn send(&self, ticket: Ticket) -> Result<(), Refusal> {
        if self.own_count.load(Ordering::Relaxed) > 0 {
            // The read lock is held while sending: a lane ends only under the write lock, and only
            // when its queue is empty.
            let own = self.own.read();
            let lane = ticket.demand.products().find_map(|product_id| own.get(&product_id));
            if let Some(lane) = lane {
                return queued(self.queue(lane, ticket));
            }
        }
        match &*self.shared.read() {
            Some(lane) => queued(self.queue(lane, ticket)),
            None => Err(Refusal::ShuttingDown),
        }
    }

    /// Puts a ticket into a lane. Gives back the one that was not taken, and why.
    fn queue(&self, lane: &mpsc::Sender<Ticket>, ticket: Ticket) -> Option<(Ticket, Refusal)> {
        // Before, so that a lane that is quick to take it does not count below 0.
        self.runner.metrics.lane_depth.inc();
        let (ticket, refusal) = match lane.try_send(ticket) {
            Ok(()) => return None,
            Err(mpsc::error::TrySendError::Full(ticket)) => (ticket, Refusal::Full),
            Err(mpsc::error::TrySendError::Closed(ticket)) => (ticket, Refusal::ShuttingDown),
        };
        self.taken(1);
        Some((ticket, refusal))
    }

    /// Counts tickets that wait in their lane no longer.
    fn taken(&self, tickets: usize) {
        self.runner.metrics.lane_depth.sub(i64::try_from(tickets).unwrap_or(i64::MAX));
    }

    async fn run_shared(self: Arc<Self>, mut receiver: mpsc::Receiver<Ticket>) {
        let batch_max = self.runner.settings.batch_max;
        let mut tickets = Vec::with_capacity(batch_max);
        loop {
            let missed = tickets.len();
            if tickets.is_empty() {
                if receiver.recv_many(&mut tickets, batch_max).await == 0 {
                    return;
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
            for (mut ticket, product_id) in self.runner.run(&mut tickets, LockMode::Skip).await {
                ticket.misses += 1;
                if ticket.misses < MISSES_MAX && !self.has_own_lane(product_id) {
                    tickets.push(ticket);
                } else {
                    self.contended((ticket, product_id));
                }
            }
        }
    }

    fn has_own_lane(&self, product_id: ProductId) -> bool {
        self.own_count.load(Ordering::Relaxed) > 0 && self.own.read().contains_key(&product_id)
    }

    /// Moves a ticket to the own lane of the product whose row it misses, which is opened if need be.
    fn contended(self: &Arc<Self>, (ticket, product_id): Missing) {
        let mut own = self.own.write();
        let lane = match own.get(&product_id) {
            Some(lane) => lane,
            None if own.len() >= self.runner.settings.own_lanes_max => {
                drop(own);
                self.runner.refuse(ticket, Refusal::LockTimeout);
                return;
            }
            None => {
                let (sender, receiver) = mpsc::channel(self.runner.settings.lane_depth);
                self.tasks.spawn(Arc::clone(self).run_own(product_id, receiver));
                self.own_count.fetch_add(1, Ordering::Relaxed);
                self.runner.metrics.own_lanes.inc();
                own.entry(product_id).or_insert(sender)
            }
        };
        if let Some((ticket, refusal)) = self.queue(lane, ticket) {
            self.runner.refuse(ticket, refusal);
        }
    }

    async fn run_own(self: Arc<Self>, product_id: ProductId, mut receiver: mpsc::Receiver<Ticket>) {
        let batch_max = self.runner.settings.batch_max;
        let idle = self.runner.settings.own_lane_idle;
        let mut tickets = Vec::with_capacity(batch_max);
        loop {
            match tokio::time::timeout(idle, receiver.recv_many(&mut tickets, batch_max)).await {
                Ok(0) => break,
                Ok(count) => {
                    self.taken(count);
                    // Never closed, so this cannot fail; if it did, the batch would only be
                    // without its bound.
                    let connection = self.own_connections.acquire().await;
                    let waiting = LockMode::WaitFor(product_id);
                    for (mut ticket, missed) in self.runner.run(&mut tickets, waiting).await {
                        ticket.misses += 1;
                        if ticket.misses < MOVES_MAX {
                            self.contended((ticket, missed));
                        } else {
                            self.runner.run(&mut vec![ticket], LockMode::Wait).await;
                        }
                    }
                    drop(connection);
                }
                Err(_idle) => {
                    let mut own = self.own.write();
                    if receiver.is_empty() {
                        own.remove(&product_id);
                        break;
                    }
                }
            }
        }
        self.own_count.fetch_sub(1, Ordering::Relaxed);
        self.runner.metrics.own_lanes.dec();
    }

    /// Hands orders to the publisher that came through no lane.
    pub fn publish(&self, orders: impl Iterator<Item = (OrderId, Option<String>)>) {
        self.runner.outbox.send(orders);
    }

    /// Takes no more orders and waits until those in the lanes are answered.
    pub async fn close(&self) {
        self.shared.write().take();
        // The shared lane may still open own lanes until it has emptied its queue; they end by
        // themselves when they are idle.
        self.tasks.close();
        self.tasks.wait().await;
        self.runner.outbox.close().await;
    }
}

fn queued(left_over: Option<(Ticket, Refusal)>) -> Result<(), Refusal> {
    left_over.map_or(Ok(()), |(_, refusal)| Err(refusal))
}
