//! A demand that waits in a lane, and the verdict on it.

use std::time::{Duration, Instant};

use holdfast_domain::{
    CustomerRef, Demand, HoldId, HoldStatus, Metadata, Money, Operator, OperatorNote, OrderId,
    ProductId, Shortfall,
};
use holdfast_store::{IdempotencyKey, Ordered, ResultKind};
use smallvec::SmallVec;
use tokio::sync::oneshot;

/// What comes with a demand and is no matter of stock.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The shop's name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// What the shop keeps with an order.
    pub metadata: Option<Metadata>,
    /// The W3C `traceparent` of the request, if that is sampled.
    pub trace_context: Option<String>,
    /// The key of the request.
    pub key: Option<IdempotencyKey>,
    /// With a hold: how long it holds.
    pub lasts: Duration,
    /// With a cancellation: who wants it, if that is to be kept.
    pub ordered: Option<OrderedBy>,
}

/// Who wants something done to an order, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedBy {
    /// Who.
    pub by: Operator,
    /// Why, if somebody said so.
    pub note: Option<OperatorNote>,
}

impl OrderedBy {
    /// As the store wants it.
    pub fn as_ordered(&self) -> Ordered<'_> {
        Ordered { by: self.by.as_str(), note: self.note.as_ref().map(OperatorNote::as_str) }
    }
}

/// What a demand has led to: it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A new order.
    Order(AcceptedOrder),
    /// A new hold.
    Hold(AcceptedHold),
    /// The units are back in stock.
    Returned,
    /// The units of so many expired holds are back in stock.
    Expired {
        /// How many.
        holds: usize,
    },
    /// The same request came before; this is what it has led to.
    Repeat {
        /// Of what kind that is.
        kind: ResultKind,
        /// Its id.
        id: i64,
    },
}

/// An order that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedOrder {
    /// Its id.
    pub id: OrderId,
    /// What one unit of each line costs.
    pub unit_prices: SmallVec<[Money; 1]>,
    /// Whose it is because its holds are, if its request named nobody.
    pub inherited: Option<CustomerRef>,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
}

/// A hold that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedHold {
    /// Its id.
    pub id: HoldId,
    /// What one unit costs.
    pub unit_price: Money,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
}

/// Why a demand was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The shop does not have what is wanted.
    #[error("what is wanted is not there")]
    Short(Shortfall),
    /// The key came before, with another request.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// Too many orders wait already, or this one has waited for too long.
    #[error("the lane is full")]
    Full,
    /// The product's row was locked by others for too long.
    #[error("the product stayed locked for too long")]
    LockTimeout,
    /// The database cannot take orders at the moment.
    #[error("the database is not available")]
    Unavailable,
    /// The commit was not answered and its fate could not be found out in time. The order may
    /// exist.
    #[error("it is not known whether the order was accepted")]
    OutcomeUnknown,
    /// The database refuses this very order: a defect.
    #[error("the database refused the order")]
    Internal,
    /// This process is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// Every label that [`Self::reason`] gives.
    pub const REASONS: [&str; 23] = [
        "unknown_product",
        "not_enough",
        "price_changed",
        "sale_not_open",
        "sale_over",
        "over_limit",
        "customer_needed",
        "unknown_hold",
        "hold_expired",
        "hold_ended",
        "hold_differs",
        "customer_differs",
        "unknown_order",
        "order_moved",
        "order_may_be_fulfilled",
        "stock_full",
        "key_reused",
        "full",
        "lock_timeout",
        "unavailable",
        "outcome_unknown",
        "internal",
        "shutting_down",
    ];

    /// The label of the metric, from a bounded set.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Short(Shortfall::UnknownProduct(_)) => "unknown_product",
            Self::Short(Shortfall::NotEnough { .. }) => "not_enough",
            Self::Short(Shortfall::PriceChanged { .. }) => "price_changed",
            Self::Short(Shortfall::SaleNotOpen { .. }) => "sale_not_open",
            Self::Short(Shortfall::SaleOver(_)) => "sale_over",
            Self::Short(Shortfall::OverLimit { .. }) => "over_limit",
            Self::Short(Shortfall::CustomerNeeded(_)) => "customer_needed",
            Self::Short(Shortfall::UnknownHold(_)) => "unknown_hold",
            Self::Short(Shortfall::HoldEnded { status: HoldStatus::Expired, .. }) => "hold_expired",
            Self::Short(Shortfall::HoldEnded { .. }) => "hold_ended",
            Self::Short(Shortfall::HoldDiffers(_)) => "hold_differs",
            Self::Short(Shortfall::CustomerDiffers(_)) => "customer_differs",
            Self::Short(Shortfall::UnknownOrder) => "unknown_order",
            Self::Short(Shortfall::OrderMoved(_)) => "order_moved",
            Self::Short(Shortfall::OrderMayBeFulfilled(_)) => "order_may_be_fulfilled",
            Self::Short(Shortfall::StockFull(_)) => "stock_full",
            Self::KeyReused => "key_reused",
            Self::Full => "full",
            Self::LockTimeout => "lock_timeout",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Internal => "internal",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

pub(super) type Verdict = Result<Accepted, Refusal>;

/// A demand on its way through a lane.
#[derive(Debug)]
pub(super) struct Ticket {
    pub demand: Demand,
    pub details: Details,
    pub arrived: Instant,
    /// How often one of its rows was found locked.
    pub misses: u8,
    /// The product whose row was found locked last, and its version then.
    pub seen: Option<(ProductId, i64)>,
    verdict: oneshot::Sender<Verdict>,
}

/// A row that a request needs, and that others may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Row {
    /// Of an idempotency key: somebody has written it and not committed yet.
    Key(u128),
    /// Of the order that it cancels.
    Order(OrderId),
    /// Of a hold that it ends.
    Hold(HoldId),
    /// Of a product.
    Product(ProductId),
}

/// A request that a batch had to leave out, and the row that it misses.
#[derive(Debug)]
pub(super) struct Missing {
    pub ticket: Ticket,
    pub row: Row,
    pub cause: Cause,
}

/// Why a request was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody has locked the row, or it does not exist.
    Locked,
    /// The batch's write waited for something, and it is not known for what.
    Write,
}

impl Ticket {
    pub fn new(demand: Demand, details: Details) -> (Self, oneshot::Receiver<Verdict>) {
        let (verdict, answer) = oneshot::channel();
        (Self { demand, details, arrived: Instant::now(), misses: 0, seen: None, verdict }, answer)
    }

    /// Whether nobody waits for the verdict any more.
    pub fn is_abandoned(&self) -> bool {
        self.verdict.is_closed()
    }

    /// The rows that it needs.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let key = self.details.key.map(|key| Row::Key(key.id()));
        let order = self.demand.order().map(Row::Order);
        // Of expired holds, those come back that can.
        let whole = !matches!(self.demand, Demand::Expire { .. });
        let holds = self.demand.holds().filter(move |_| whole).map(Row::Hold);
        key.into_iter().chain(order).chain(holds).chain(self.demand.products().map(Row::Product))
    }

    /// The kind of result that its key leads to.
    pub fn kind(&self) -> Option<ResultKind> {
        match self.demand {
            Demand::Order(_) => Some(ResultKind::Order),
            Demand::Hold { .. } => Some(ResultKind::Hold),
            Demand::Cancel { .. } | Demand::Release { .. } | Demand::Expire { .. } => None,
        }
    }

    pub fn answer(self, verdict: Verdict) {
        // A caller that has gone does not hear it.
        let _ = self.verdict.send(verdict);
    }
}
