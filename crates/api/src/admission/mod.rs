//! Admission: how orders get their stock at batch speed.
//!
//! A route hands a validated order to [`Admission::place`] and waits for the verdict. Behind it are
//! lanes. A lane takes all orders that wait in it (up to a bound), locks the rows of their products
//! once, gives out the stock in the order of arrival (`holdfast_domain::Shelf`), writes
//! everything in one statement, commits once and answers every caller. While it commits, the next
//! batch gathers. So load makes batches: an idle system pays no delay, and a hot product shares
//! one lock and one commit among hundreds of orders.
//!
//! Which lane?
//! - All requests go through **one shared lane** first. It never waits for a row: it locks with
//!   `SKIP LOCKED`.
//! - Requests for a product whose row others hold at three tries, and whose version moves meanwhile, go to **a lane of
//!   that product's own**: two replicas sell the product. It waits for the row in the database, for as long as a batch
//!   needs, and takes turns with the other replica. It ends when it has had no work for a while.
//! - Requests for a row that does not move are **stuck**: a product, an order that is to be cancelled, a hold, or an
//!   idempotency key in a transaction of somebody else. They wait without a connection. **The look** tries the first
//!   of each stuck row from time to time, all rows together, and without waiting. The requests have their turn
//!   when the row is free, and get a lane when it moves.
//!
//! So nobody waits in the database for longer than a batch needs, and no number of locked rows takes connections
//! from the others. Only requests that need a contended row go there; the others stay in the shared lane.
//!
//! What is known to be sold out is refused before it comes to a lane: see [`Admission::place`].
//!
//! An order of several lines is admitted when all its rows are there. One that misses a row moves to the place
//! of that row. A lane waits for its own row before it has any other, then takes what else its requests need and
//! nobody holds. So there is no deadlock between replicas.
//!
//! Cancellations and holds go the same way, in the same batches: they are demands like orders.
//!
//! | file | subject |
//! |---|---|
//! | `ticket` | a demand that waits, and its verdict |
//! | `lanes` | the queues, and which request goes to which |
//! | `contended` | the rows that others hold, and what waits for them |
//! | `look` | trying requests for stuck rows again |
//! | `missed_rows` | telling rows that are locked from those that do not exist |
//! | `suspect_keys` | when to look for keys that others have written and not committed |
//! | `batch` | one batch from the lock to the answers |
//! | `needs` | what a batch needs to know and to have from the database |
//! | `rule` | who of a batch gets what |
//! | `expiry` | giving back what expired holds kept |
//! | `sale_watch` | what is seen of products in flash sales, for their reports |
//! | `sold_out` | refusing from memory what is known not to be there |
//! | `publish` | from the commit to the worker's queue |
//! | `metrics` | what an operator sees of it |
//! | `trace` | what the traces of a batch's orders say of it |

mod answers;
mod batch;
mod contended;
mod expiry;
mod lanes;
mod look;
mod metrics;
mod missed_rows;
mod needs;
mod problem;
mod publish;
mod rule;
mod sale_watch;
mod sold_out;
mod suspect_keys;
mod ticket;
mod trace;

use std::{sync::Arc, time::Duration};

use holdfast_cache::Cache;
use holdfast_domain::{Demand, OrderId};
use holdfast_queue::Publisher;
use holdfast_store::Store;

pub use metrics::AdmissionMetrics;
pub use ticket::{Accepted, AcceptedHold, AcceptedOrder, Details, OrderedBy, Refusal};

use crate::products::CachedProduct;

/// The bounds of admission.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionSettings {
    /// The most orders that may wait in one lane; the next is refused.
    pub lane_depth: usize,
    /// The most orders in one batch.
    pub batch_max: usize,
    /// The most products whose lanes wait in the database at the same time. Requests for further ones
    /// are tried again from time to time.
    pub own_lanes_max: usize,
    /// An order that has waited longer than this when its turn comes is refused.
    pub wait_max: Duration,
    /// The longest that a request waits for a row that others keep locked.
    pub lock_wait_max: Duration,
    /// How long a lane of a product's own stays when it has no work.
    pub own_lane_idle: Duration,
    /// How often holds are looked for whose time is over.
    pub expiry_interval: Duration,
    /// How long the fate of an unanswered commit is looked for before callers are told that it is
    /// unknown.
    pub outcome_timeout: Duration,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self {
            lane_depth: 4096,
            batch_max: 2048,
            own_lanes_max: 64,
            wait_max: Duration::from_secs(2),
            lock_wait_max: Duration::from_secs(2),
            own_lane_idle: Duration::from_millis(500),
            expiry_interval: Duration::from_secs(1),
            outcome_timeout: Duration::from_secs(10),
        }
    }
}

/// The way to place an order, to hold stock, and to give either back. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    lanes: Arc<lanes::Lanes>,
    expiry: Arc<expiry::Expiry>,
    sale_watch: sale_watch::SaleWatch,
    metrics: Arc<AdmissionMetrics>,
}

impl Admission {
    /// Opens the shared lane. Must be called within a tokio runtime.
    pub fn open(
        settings: AdmissionSettings,
        store: Store,
        cache: Cache<CachedProduct>,
        publisher: Publisher,
        metrics: Arc<AdmissionMetrics>,
    ) -> Self {
        let outbox = publish::start(publisher, Arc::clone(&metrics));
        let sold_out = sold_out::SoldOut::new(store.clone(), cache.clone());
        let sale_watch = sale_watch::SaleWatch::start(store.clone());
        let runner = batch::Runner {
            settings,
            store: store.clone(),
            cache,
            sold_out,
            sale_watch: sale_watch.clone(),
            suspect_keys: suspect_keys::SuspectKeys::new(),
            outbox,
            metrics: Arc::clone(&metrics),
        };
        let lanes = lanes::Lanes::open(runner);
        let expiry = expiry::Expiry::start(store, Arc::clone(&lanes), settings.expiry_interval);
        Self { lanes, expiry: Arc::new(expiry), sale_watch, metrics }
    }

    /// Hands over a demand and waits for the verdict: at most for `wait_max` and one batch, which
    /// is bounded by the timeouts of the database.
    ///
    /// A demand for more than this process knows to be left is refused at once, from the read cache's
    /// memory, which a change of stock reaches before its caller is answered, and other
    /// replicas with one message. A refusal by a lane makes the cache remember the product.
    ///
    /// Two demands with the same key lead to one result, whichever replicas they come to, also at
    /// the same time: the second waits for the first.
    ///
    /// Dropping the future before the demand's batch began withdraws it. Dropped later, it may be
    /// granted without anybody hearing of it, as with any lost answer.
    ///
    /// # Errors
    /// Why it was refused. Nothing of it is left behind then, except with
    /// [`Refusal::OutcomeUnknown`].
    pub async fn place(&self, demand: Demand, details: Details) -> Result<Accepted, Refusal> {
        let products: sale_watch::Products = demand.products().collect();
        let verdict = self.decide(demand, details).await;
        // Here and nowhere else: every refusal passes through here once.
        if let Err(refusal) = &verdict {
            self.metrics.refused(*refusal);
        }
        self.sale_watch.ended(&products, &verdict);
        verdict
    }

    async fn decide(&self, demand: Demand, details: Details) -> Result<Accepted, Refusal> {
        let (ticket, verdict) = ticket::Ticket::new(demand, details);
        self.lanes.refuse_sold_out(&ticket)?;
        self.lanes.send(ticket)?;
        // The lane answers each ticket; it goes without an answer only when the process ends.
        verdict.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    /// Hands orders that are pending again to the workers, each with its trace context. Never
    /// waits: those for which there is no room are left to the sweeper.
    pub fn publish(&self, orders: impl Iterator<Item = (OrderId, Option<String>)>) {
        self.lanes.publish(orders);
    }

    /// Takes no more demands, and waits until those in the lanes are answered and published.
    pub async fn close(&self) {
        self.expiry.stop();
        self.lanes.close().await;
    }
}
