//! The lanes, and which order goes to which.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use holdfast_domain::{Demand, ProductId};
use holdfast_store::LockMode;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::{
    batch::Runner,
    ticket::{Refusal, Ticket},
};

/// How often the shared lane must find an order's row locked before its product gets a lane of its
/// own. Another replica's batch is over by the next try, and would otherwise leave a lane behind
/// for each product that the two happened to meet at.
const MISSES_MAX: u8 = 3;

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

    /// Refuses an order for more than is known to be left.
    pub fn refuse_sold_out(&self, demand: &Demand) -> Result<(), Refusal> {
        self.runner
            .sold_out
            .check(demand)
            .inspect_err(|refusal| self.runner.metrics.refused(*refusal))
    }

    /// Puts an order into its lane.
    pub fn send(&self, ticket: Ticket) -> Result<(), Refusal> {
        if self.own_count.load(Ordering::Relaxed) > 0 {
            // The read lock is held while sending: a lane ends only under the write lock, and only
            // when its queue is empty.
            let own = self.own.read();
            if let Some(lane) = own.get(&ticket.demand.product_id) {
                return queue(lane, ticket).map_err(|(_, refusal)| refusal);
            }
        }
        match &*self.shared.read() {
            Some(lane) => queue(lane, ticket).map_err(|(_, refusal)| refusal),
            None => Err(Refusal::ShuttingDown),
        }
    }

    async fn run_shared(self: Arc<Self>, mut receiver: mpsc::Receiver<Ticket>) {
        let batch_max = self.runner.settings.batch_max;
        let mut tickets = Vec::with_capacity(batch_max);
        loop {
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
            self.runner.metrics.lane_depth.set(depth(&receiver));
            for mut ticket in self.runner.run(&mut tickets, LockMode::Skip).await {
                ticket.misses += 1;
                if ticket.misses < MISSES_MAX && !self.has_own_lane(ticket.demand.product_id) {
                    tickets.push(ticket);
                } else {
                    self.contended(ticket);
                }
            }
        }
    }

    fn has_own_lane(&self, product_id: ProductId) -> bool {
        self.own_count.load(Ordering::Relaxed) > 0 && self.own.read().contains_key(&product_id)
    }

    /// Moves an order whose row is locked to its product's own lane, which is opened if need be.
    fn contended(self: &Arc<Self>, ticket: Ticket) {
        let product_id = ticket.demand.product_id;
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
        if let Err((ticket, refusal)) = queue(lane, ticket) {
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
                Ok(_) => {
                    // Never closed, so this cannot fail; if it did, the batch would only be
                    // without its bound.
                    let connection = self.own_connections.acquire().await;
                    self.runner.run(&mut tickets, LockMode::Wait).await;
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

fn queue(lane: &mpsc::Sender<Ticket>, ticket: Ticket) -> Result<(), (Ticket, Refusal)> {
    lane.try_send(ticket).map_err(|error| match error {
        mpsc::error::TrySendError::Full(ticket) => (ticket, Refusal::Full),
        mpsc::error::TrySendError::Closed(ticket) => (ticket, Refusal::ShuttingDown),
    })
}

fn depth(receiver: &mpsc::Receiver<Ticket>) -> i64 {
    i64::try_from(receiver.len()).unwrap_or(i64::MAX)
}
