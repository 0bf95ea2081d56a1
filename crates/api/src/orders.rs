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

/// An accepted order.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AcceptedOrder)]
pub struct AcceptedBody {
    /// The id, assigned by the server; later orders have higher ids.
    #[schema(example = 4711)]
    pub id: i64,
    /// If the order has one line: the id of its product.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub product_id: Option<i64>,
    /// If the order has one line: its number of units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub quantity: Option<i32>,
    /// If the order has one line: the price of one unit when the order was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 499.90)]
    pub unit_price: Option<f64>,
    /// The lines of the order.
    #[schema(value_type = Vec<ItemBody>)]
    pub items: SmallVec<[ItemBody; 1]>,
    /// The shop's reference for the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "customer-42")]
    pub customer_ref: Option<String>,
    /// Data of the shop that is kept with the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// The status of the order.
    #[schema(example = "pending")]
    pub status: Status,
    /// The time at which the order was accepted.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub created_at: ShownTime,
}

/// A line of an order.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub struct ItemBody {
    /// The id of the product.
    #[schema(example = 3)]
    pub product_id: i64,
    /// The number of units.
    #[schema(example = 1)]
    pub quantity: i32,
    /// The price of one unit when the order was accepted.
    #[schema(example = 499.90)]
    pub unit_price: f64,
}

/// An order and its fulfilment.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderBody {
    /// The accepted order with its current status.
    #[serde(flatten)]
    #[schema(inline)]
    pub accepted: AcceptedBody,
    /// The number of attempts to fulfil the order.
    #[schema(example = 1)]
    pub attempts: i32,
    /// `true` while the order is neither completed nor cancelled and one of the attempts may have succeeded. The
    /// order cannot be cancelled then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub may_be_fulfilled: bool,
    /// Why the order or its last attempt failed. Not shown to a caller that is bound to one customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The time at which the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub processing_at: Option<ShownTime>,
    /// The time at which the order was completed, failed or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub finished_at: Option<ShownTime>,
}

/// An order, its fulfilment and its history.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrderWithHistory)]
pub struct OrderHistoryBody {
    /// The order in its current state.
    #[serde(flatten)]
    #[schema(inline)]
    pub order: OrderBody,
    /// All changes of the status, oldest first.
    pub history: Vec<StepBody>,
}

/// A change of an order's status.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub struct StepBody {
    /// The new status.
    #[schema(example = "pending")]
    pub status: Status,
    /// The time of the change.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub at: ShownTime,
    /// The reason, if there is one. Not shown to a caller that is bound to one customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The operator who requested the change, if one did. Not shown to a caller that is bound to one customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

words! {
    /// The status of an order: `pending` (accepted and committed), `processing` (a worker fulfils it), `completed`,
    /// `failed` (could not be fulfilled) or `cancelled` (its units were returned to stock). `completed` and `cancelled` are
    /// final; a `failed` order can be replayed or discarded by an operator.
    Status of OrderStatus
}

impl AcceptedBody {
    /// A newly accepted order.
    pub fn new(order: AcceptedOrder) -> Self {
        let items = order.lines.iter().map(|line| ItemBody {
            product_id: line.product_id.0,
            quantity: line.quantity.units(),
            unit_price: line.unit_price.to_major_f64(),
        });
        Self::pending(order.id, order.created_at, items.collect())
            .with(order.customer_ref, order.metadata.as_ref().and_then(json))
    }

    /// An order that was accepted earlier, with its current status.
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
        // As in the reference API. With several lines, a single product would be wrong.
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

/// Raw metadata. It was checked when it was received.
fn json(metadata: &Metadata) -> Option<Box<RawValue>> {
    RawValue::from_string(metadata.as_str().to_owned()).ok()
}

/// How much of an order is shown. Every route that answers with an order takes the body from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Everything, for the shop's own programs and its operators.
    Shop,
    /// What a customer may see: not why an attempt failed (that contains the receiver's address and answer), and
    /// no notes or names of operators.
    Customer,
}

impl View {
    pub fn of(caller: &Caller) -> Self {
        if caller.customer().is_some() { Self::Customer } else { Self::Shop }
    }

    /// An order and its fulfilment.
    pub fn order(self, order: Order) -> OrderBody {
        OrderBody::new(self.shown(order))
    }

    /// An order, its fulfilment and its history.
    pub fn with_history(self, order: Order) -> OrderHistoryBody {
        OrderHistoryBody::new(self.shown(order))
    }

    /// Removes what is not shown.
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

/// The order does not exist, or the caller may not see it.
pub fn unknown(id: i64) -> Problem {
    Problem::with_detail(ProblemKind::NotFound, format!("There is no order with id {id}."))
}
