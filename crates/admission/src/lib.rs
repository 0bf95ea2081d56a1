//! Admission: decides on orders and other stock requests, in batches.
//!
//! This crate contains the lanes in which requests wait, batches from the lock to the answers, refusals of requests for
//! sold-out products from memory, the return of units of expired holds, the publication of accepted orders to the queue,
//! and the metrics of these. It contains no HTTP, no problem documents and no SQL. The rules of stock are in
//! `holdfast_domain`.
//!
//! A caller passes a validated request to [`Admission`] and waits for the decision. A lane takes all waiting requests
//! (up to a limit), locks the rows of their products once, allocates the stock in the order of arrival, writes
//! everything in one statement, commits once and answers every caller. During the commit, the next batch forms. So
//! batches grow with the load: an idle system has no delay, and hundreds of orders of a hot product share one lock and
//! one commit. Orders, holds, cancellations and releases use the same lanes and batches.
//!
//! Requests for products that are known to be sold out are refused before they reach a lane.
//!
//! # Which lane
//!
//! - All requests go through **one shared lane** first. It never waits for a row: it locks with `SKIP LOCKED`.
//! - If three tries find a product's row locked, and the row's version changes between them, another replica sells the
//!   product. The requests for it move to **a lane of that product**. This lane waits for the row in the database, for
//!   as long as a batch needs, and takes turns with the other replica. It ends after some idle time.
//! - If the version does not change, the row is **stuck**. It may be the row of a product, of an order to be cancelled,
//!   of a hold, or of an idempotency key in an open transaction. Its requests wait without a connection, and the first
//!   of them is retried from time to time, together with those for other stuck rows, and without waiting. When the row
//!   is free, all its requests are served; when its version changes, it gets a lane.
//!
//! No request waits in the database for longer than a batch needs, and locked rows never take connections away from
//! other requests, however many there are. Only requests that need a contended row leave the shared lane.
//!
//! An order with several lines is admitted when all its rows are locked. If a row is missing, the order waits for that
//! row. A product's lane first waits for its own row, and then locks the other rows that its requests need and that are
//! not locked. This excludes deadlocks between replicas.
//!
//! | file | subject |
//! |---|---|
//! | `stock_request` | the kinds of requests: what each needs, what it writes, and its answer |
//! | `decision` | the decisions that callers get |
//! | `case` | a request with its decision and the channel to its caller |
//! | `pending` | a request of any kind that waits in a lane |
//! | `needs` | the rows that requests need |
//! | `batch_needs` | what all requests of a batch need |
//! | `lanes` | the queues, and which request goes to which |
//! | `contended_rows` | the rows that other transactions have locked, and the requests that wait for them |
//! | `retries` | retrying requests for stuck rows |
//! | `missing_rows` | distinguishes locked rows from rows that do not exist |
//! | `suspect_keys` | when batches check for keys in open transactions |
//! | `batch` | which requests are in a batch, and what happens if it fails |
//! | `admit` | one batch from the lock to the answers |
//! | `decide` | deciding on the requests of a batch |
//! | `expired_holds` | returning the units of expired holds of products that run short |
//! | `expiry` | returning the units of expired holds when no request needs them |
//! | `sold_out` | refusing from memory |
//! | `sale_watch` | counts for the reports of flash sales |
//! | `publish` | from the commit to the workers' queue |
//! | `answered_orders` | the orders that were answered lately, to find those that a failover has lost or brought back |
//! | `metrics`, `trace` | metrics and traces |

mod admit;
mod answered_orders;
mod batch;
mod batch_needs;
mod case;
mod contended_rows;
mod decide;
mod decision;
mod expired_holds;
mod expiry;
mod lanes;
mod metrics;
mod missing_rows;
mod needs;
mod pending;
mod publish;
mod retries;
mod sale_watch;
mod sold_out;
mod stock_request;
mod suspect_keys;
mod trace;

use std::{sync::Arc, time::Duration};

use holdfast_cache::Cache;
use holdfast_domain::OrderId;
use holdfast_queue::Publisher;
use holdfast_store::{Store, StoreError};

pub use decision::{AcceptedHold, AcceptedOrder, HoldDecision, OrderDecision, Refusal};
pub use metrics::{AdmissionCounts, AdmissionMetrics};
pub use stock_request::{CancelOrder, HoldStock, OrderedBy, PlaceOrder, ReleaseHold};

use answered_orders::{AnsweredOrders, OrderChanges};
use case::Case;
use pending::{PendingKind, PendingRequest};
use stock_request::StockRequest;

/// A product as the read cache stores it. Admission reads a product into the cache when it is sold out, and keeps its
/// stock up to date. The owner of the cache decides what else an entry contains.
pub trait ProductEntry: holdfast_cache::Entry + From<holdfast_domain::Product> {}

impl<T: holdfast_cache::Entry + From<holdfast_domain::Product>> ProductEntry for T {}

/// The most ids in one log line.
const LOST_IN_LINE: usize = 100;

/// The limits of admission.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionSettings {
    /// The most requests that may wait in a lane; further ones are refused.
    pub lane_depth: usize,
    /// The most requests in one batch.
    pub batch_max: usize,
    /// The most products whose lanes wait in the database at the same time. Requests for further products are retried
    /// from time to time.
    pub own_lanes_max: usize,
    /// A request is refused if it has waited for longer than this in its lane.
    pub wait_max: Duration,
    /// The longest wait for a row that another transaction has locked.
    pub lock_wait_max: Duration,
    /// How long a product's lane is kept without requests.
    pub own_lane_idle: Duration,
    /// How often expired holds are returned.
    pub expiry_interval: Duration,
    /// How long the outcome of an unanswered commit is looked up before callers are told that it is unknown.
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

/// Places orders, holds stock, and reverses both. Cheap to clone.
///
/// Each request waits for its decision for at most `wait_max` and one batch, whose time is limited by the timeouts of
/// the database and by `outcome_timeout`. A refused request has no effect, except possibly with
/// [`Refusal::OutcomeUnknown`].
///
/// Two requests with the same key have one result, even on different replicas and at the same time: the second one
/// waits for the first.
///
/// A request for more units than this process knows to be left, including units of expired holds, is refused
/// immediately, from memory. A change of stock reaches that memory before its caller is answered, and other replicas
/// with one message. A request with a key is not refused from memory, because it may repeat a granted one.
///
/// If a future is dropped before the batch of its request begins, the request is withdrawn. If it is dropped later, the
/// request may be granted without an answer.
#[derive(Clone)]
pub struct Admission<P: ProductEntry> {
    lanes: Arc<lanes::Lanes<P>>,
    expiry: Arc<expiry::HoldExpiry>,
    sale_watch: sale_watch::SaleWatch,
    answered: Arc<AnsweredOrders>,
    store: Store,
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
        let interval = settings.expiry_interval;
        let expiry = expiry::HoldExpiry::start(store.clone(), Arc::clone(&lanes), interval);
        let answered = Arc::default();
        Self { lanes, expiry: Arc::new(expiry), sale_watch, answered, store, metrics }
    }

    /// Places an order.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn place_order(&self, order: PlaceOrder) -> Result<OrderDecision, Refusal> {
        let decision = self.decide(order).await?;
        if let OrderDecision::Accepted(order) = &decision {
            self.remember_answer(order.id, order.created_at);
        }
        Ok(decision)
    }

    /// Remembers an order for [`Self::report_lost_orders`]. Call this before a client gets 201 for an order that
    /// already existed.
    pub fn remember_answer(&self, order: OrderId, created_at: jiff::Timestamp) {
        self.answered.remember(order, created_at);
    }

    /// Looks for orders that this process has answered in the last minutes and that the database does not have, counts
    /// them, and writes them to the log. Call this when the database may have lost commits: after a failover to a
    /// standby that lacked them, or after a restore. Also reports lost orders that the database has again, for example
    /// because a former primary has become the primary again. Safe to cancel: the next call reports what this one has
    /// not reported.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn report_lost_orders(&self) -> Result<(), StoreError> {
        // With synchronous replication, a former primary that still answers does not get past this.
        self.store.replicated().await?;
        let OrderChanges { lost, found } = self.answered.look(&self.store).await?;
        self.metrics.lost.inc_by(lost.len() as u64);
        self.metrics.found.inc_by(found.len() as u64);
        for orders in lost.chunks(LOST_IN_LINE) {
            let ids: Vec<_> = orders.iter().map(|id| id.0).collect();
            tracing::error!(
                orders = ?ids,
                count = ids.len(),
                "orders were answered with 201, and the database has lost them"
            );
        }
        for orders in found.chunks(LOST_IN_LINE) {
            let ids: Vec<_> = orders.iter().map(|id| id.0).collect();
            tracing::warn!(
                orders = ?ids,
                count = ids.len(),
                "orders that were reported as lost exist: the database has them again"
            );
        }
        Ok(())
    }

    /// Holds stock for a limited time.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn hold(&self, hold: HoldStock) -> Result<HoldDecision, Refusal> {
        self.decide(hold).await
    }

    /// Cancels an order. Afterwards its units are back in stock.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn cancel(&self, order: CancelOrder) -> Result<(), Refusal> {
        self.decide(order).await
    }

    /// Ends a hold before it expires. Afterwards its units are back in stock.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn release(&self, hold: ReleaseHold) -> Result<(), Refusal> {
        self.decide(hold).await
    }

    async fn decide<R: StockRequest>(&self, request: R) -> Result<R::Answer, Refusal>
    where
        Case<R>: Into<PendingKind>,
    {
        let products: sale_watch::Products = request.needs().products().collect();
        let answer = self.wait_for_decision(request).await;
        match &answer {
            Ok(answer) if R::is_new(answer) => self.sale_watch.ended(&products, Ok(())),
            Ok(_) => {}
            // The only place where refusals are counted.
            Err(refusal) => {
                self.metrics.refused(*refusal);
                self.sale_watch.ended(&products, Err(*refusal));
            }
        }
        answer
    }

    async fn wait_for_decision<R: StockRequest>(&self, request: R) -> Result<R::Answer, Refusal>
    where
        Case<R>: Into<PendingKind>,
    {
        self.lanes.refuse_sold_out(&request)?;
        let (pending, decision) = PendingRequest::new(request);
        self.lanes.send(pending)?;
        decision.await.unwrap_or_else(|_dropped| {
            // The batch may be committed even if it panicked.
            tracing::error!("a request was dropped without a decision");
            Err(Refusal::OutcomeUnknown)
        })
    }

    /// Publishes orders that are pending again, with their trace contexts. Never waits: if there is no room, the orders
    /// are left to the sweep.
    pub fn publish(&self, orders: impl Iterator<Item = (OrderId, Option<String>)>) {
        self.lanes.publish(orders);
    }

    /// Accepts no more requests, and waits until those in the lanes are answered and published.
    pub async fn close(&self) {
        self.expiry.stop();
        self.lanes.close().await;
    }
}
