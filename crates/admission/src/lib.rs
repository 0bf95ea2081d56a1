//! Admission: how orders get their stock at batch speed.
//!
//! What lives here: the lanes in which requests wait, batches from the lock to the answers, refusing from memory what
//! is sold out, giving back what expired holds kept, handing accepted orders to the workers' queue, and the metrics of
//! all that. What must not: HTTP, problems, SQL, and the rules of stock ([`holdfast_domain`] has them).
//!
//! A caller hands a validated request to [`Admission::place`] and waits for the verdict. A lane takes all requests
//! that wait in it (up to a bound), locks the rows of their products once, allocates the stock in the order of arrival,
//! writes everything in one statement, commits once and answers every caller. While it commits, the next batch
//! gathers. So load makes batches: an idle system pays no delay, and a hot product shares one lock and one commit among
//! hundreds of orders. Cancellations, holds and releases take the same way, in the same batches.
//!
//! # Which lane
//!
//! - All requests go through **one shared lane** first. It never waits for a row: it locks with `SKIP LOCKED`.
//! - If another transaction holds a product's row at three tries, and the row's version changes meanwhile, another
//!   replica sells the product. Its requests move to **a lane of that product**. This lane waits for the row in the
//!   database, for as long as a batch needs, and takes turns with the other replica. It ends after some idle time.
//! - Requests for a row that does not change are **stuck**. The row is that of a product, of an order to be cancelled,
//!   of a hold, or of an idempotency key in an open transaction. They wait without a connection. **The look** tries
//!   the first request of each stuck row from time to time, all rows together, and without waiting. When the row is
//!   free, its requests have their turn; when it changes, it gets a lane.
//!
//! No request waits in the database for longer than a batch needs, and no number of locked rows takes connections away
//! from other requests. Only requests that need a contended row leave the shared lane.
//!
//! An order of several lines is admitted when all its rows are locked. One that misses a row waits for that row. A
//! product's lane waits for its row before it holds any other, then takes what else its requests need and nobody
//! holds. This excludes deadlocks between replicas.
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

/// A product as the read cache keeps it. Admission reads a product into the cache when it is sold out, and keeps its
/// stock up to date; what else an entry holds is its owner's choice.
pub trait ProductEntry: holdfast_cache::Entry + From<holdfast_domain::Product> {}

impl<T: holdfast_cache::Entry + From<holdfast_domain::Product>> ProductEntry for T {}

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
pub struct Admission<P: ProductEntry> {
    lanes: Arc<lanes::Lanes<P>>,
    expiry: Arc<expiry::Expiry>,
    sale_watch: sale_watch::SaleWatch,
    metrics: Arc<AdmissionMetrics>,
}

impl<P: ProductEntry> Admission<P> {
    /// Opens the shared lane. Must be called within a tokio runtime.
    pub fn open(
        settings: AdmissionSettings,
        store: Store,
        cache: Cache<P>,
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
