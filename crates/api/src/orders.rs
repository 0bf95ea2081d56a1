//! An order as the API shows it.

use holdfast_admission::AcceptedOrder;
use holdfast_domain::{CustomerRef, Metadata, Order, OrderId, OrderStatus, Transition};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    problem::{Problem, ProblemKind},
    request::words,
    shown_time::ShownTime,
};

/// An order as it was accepted.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AcceptedOrder)]
pub struct AcceptedBody {
    /// Given by the server; grows with time.
    #[schema(example = 4711)]
    pub id: i64,
    /// With an order of one line: what was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub product_id: Option<i64>,
    /// With an order of one line: how many units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub quantity: Option<i32>,
    /// With an order of one line: what one unit cost when the order was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 499.90)]
    pub unit_price: Option<f64>,
    /// Its lines.
    #[schema(value_type = Vec<ItemBody>)]
    pub items: SmallVec<[ItemBody; 1]>,
    /// The shop's own name for the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "customer-42")]
    pub customer_ref: Option<String>,
    /// What the shop keeps with the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// Where it stands.
    #[schema(example = "pending")]
    pub status: Status,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub created_at: ShownTime,
}

/// A line of an order.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub struct ItemBody {
    /// What was ordered.
    #[schema(example = 3)]
    pub product_id: i64,
    /// How many units.
    #[schema(example = 1)]
    pub quantity: i32,
    /// What one unit cost when the order was accepted.
    #[schema(example = 499.90)]
    pub unit_price: f64,
}

/// An order and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderBody {
    /// The order as it was accepted, with its status of now.
    #[serde(flatten)]
    #[schema(inline)]
    pub accepted: AcceptedBody,
    /// How often a worker has begun it.
    #[schema(example = 1)]
    pub attempts: i32,
    /// `true` while the order is neither completed nor cancelled and one of those tries may have been taken by the
    /// one who fulfils it: it cannot be cancelled then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub may_be_fulfilled: bool,
    /// Why it failed, or why its last attempt did. Not shown to a caller who is bound to one customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When a worker last began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub processing_at: Option<ShownTime>,
    /// When it was completed, failed or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub finished_at: Option<ShownTime>,
}

/// An order, what became of it, and how it came to that.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrderWithHistory)]
pub struct OrderHistoryBody {
    /// The order as it stands.
    #[serde(flatten)]
    #[schema(inline)]
    pub order: OrderBody,
    /// Each step of its life so far, the oldest first.
    pub history: Vec<StepBody>,
}

/// A step in an order's life.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub struct StepBody {
    /// Where the order stood from then on.
    #[schema(example = "pending")]
    pub status: Status,
    /// When.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub at: ShownTime,
    /// Why, if somebody said so. Not shown to a caller who is bound to one customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Who wanted it, if it was a person. Not shown to a caller who is bound to one customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

words! {
    /// Where an order stands: `pending` (accepted and committed), `processing` (a worker fulfils it), `completed`, `failed`
    /// (could not be fulfilled) or `cancelled` (its units are in stock again). `completed` and `cancelled` are final; `failed`
    /// is, unless an operator replays or discards the order.
    Status of OrderStatus
}

impl AcceptedBody {
    /// An order that was just accepted.
    pub fn new(order: AcceptedOrder) -> Self {
        let items = order.lines.iter().map(|line| ItemBody {
            product_id: line.product_id.0,
            quantity: line.quantity.units(),
            unit_price: line.unit_price.to_major_f64(),
        });
        Self::pending(order.id, order.created_at, items.collect())
            .with(order.customer_ref, order.metadata.as_ref().and_then(json))
    }

    /// An order that was accepted, long ago perhaps, with its status of now.
    pub fn of(order: &Order) -> Self {
        let items = order.lines.iter().map(|line| ItemBody {
            product_id: line.product_id.0,
            quantity: line.quantity.units(),
            unit_price: line.unit_price.to_major_f64(),
        });
        let accepted = Self::pending(order.id, order.created_at, items.collect())
            .with(order.customer_ref.clone(), order.metadata.as_ref().and_then(json));
        Self { status: Status(order.status), ..accepted }
    }

    fn pending(id: OrderId, created_at: Timestamp, items: SmallVec<[ItemBody; 1]>) -> Self {
        // As the reference API has it; with several lines, one of them would be a lie.
        let only = match &items[..] {
            [only] => Some(*only),
            _ => None,
        };
        Self {
            id: id.0,
            product_id: only.map(|item| item.product_id),
            quantity: only.map(|item| item.quantity),
            unit_price: only.map(|item| item.unit_price),
            items,
            customer_ref: None,
            metadata: None,
            status: Status(OrderStatus::Pending),
            created_at: created_at.into(),
        }
    }

    fn with(self, customer_ref: Option<CustomerRef>, metadata: Option<Box<RawValue>>) -> Self {
        Self { customer_ref: customer_ref.map(CustomerRef::into_inner), metadata, ..self }
    }
}

/// Metadata as it stands. It was checked when it came in.
fn json(metadata: &Metadata) -> Option<Box<RawValue>> {
    RawValue::from_string(metadata.as_str().to_owned()).ok()
}

/// How much of orders is shown. Each route that answers with an order has its body from here, and there is no
/// other way to get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All of it: for the shop's own programs and its operators.
    Shop,
    /// What a customer may know: not why a try failed (the receiver's address and answer are in that), nor
    /// what operators have noted, nor who they are.
    Customer,
}

impl View {
    /// The view of those who send a request.
    pub fn of(caller: &Caller) -> Self {
        if caller.customer().is_some() { Self::Customer } else { Self::Shop }
    }

    /// An order and what became of it.
    pub fn order(self, order: Order) -> OrderBody {
        OrderBody::new(self.shown(order))
    }

    /// An order, what became of it, and how it came to that.
    pub fn with_history(self, order: Order) -> OrderHistoryBody {
        OrderHistoryBody::new(self.shown(order))
    }

    /// Takes out what is not shown.
    fn shown(self, order: Order) -> Order {
        match self {
            Self::Shop => order,
            Self::Customer => {
                let bare = |step: Transition| Transition { detail: None, by: None, ..step };
                let earlier = order.earlier.into_iter().map(bare).collect();
                Order { failure: None, earlier, ..order }
            }
        }
    }
}

impl OrderBody {
    fn new(order: Order) -> Self {
        Self {
            accepted: AcceptedBody::of(&order),
            attempts: order.attempt,
            may_be_fulfilled: order.may_be_fulfilled && !order.status.is_final(),
            failure: order.failure,
            processing_at: order.processing_at.map(ShownTime),
            finished_at: order.finished_at.map(ShownTime),
        }
    }
}

impl OrderHistoryBody {
    fn new(order: Order) -> Self {
        let step = |Transition { status, at, detail, by }| StepBody {
            status: Status(status),
            at: at.into(),
            detail,
            by,
        };
        let history = order.history().into_iter().map(step).collect();
        Self { history, order: OrderBody::new(order) }
    }
}

/// There is no such order, or this caller may not know of it.
pub fn unknown(id: i64) -> Problem {
    Problem::with_detail(ProblemKind::NotFound, format!("There is no order with the id {id}."))
}
