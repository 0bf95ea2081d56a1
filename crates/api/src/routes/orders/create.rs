//! `POST /orders`

mod lines;
mod same_request;

use axum::{
    extract::State,
    http::{HeaderValue, Method, header},
};
use bytes::Bytes;
use holdfast_admission::{OrderDecision, PlaceOrder, Refusal};
use holdfast_domain::{
    CustomerRef, HoldId, Lines, Metadata, Money, OrderId, ProductId, Quantity, RequestedLine,
};
use holdfast_telemetry::{propagation, traces};
use tracing::Span;

use lines::OrderItems;

use crate::{
    access::{Caller, Scope},
    app::App,
    endpoint::{ADMISSION, Access, Created, Endpoint, LOCATION, REPLAYED, Tag},
    holds,
    idempotency::{self, ClientKey},
    orders::AcceptedBody,
    problem::{Problem, ProblemKind},
    request::{Fields, KeyedBody, NamedCustomer, Request},
};

pub(crate) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/orders",
    path_example: "",
    access: Access::Customers(Scope::OrdersWrite),
    tag: Tag::Orders,
    operation_id: "create_order",
    summary: "Place an order",
    description: "The answer 201 means that the order is committed and its stock is taken. From then on, the order \
                  always reaches a final status. Any other answer took no stock, except `outcome-unknown` and \
                  `timeout`, after which the outcome is not known.\n\n\
                  A request with an `Idempotency-Key` can be repeated safely: the answer is the same order in its \
                  current state, even while the first request is still in progress (the second one waits for it), \
                  on another replica, or after a crash. Keys are kept for 24 hours by default. The key of a \
                  refused request is not kept.",
    answer: "The accepted order; if the request is a repetition, the order in its current state",
    headers: &[LOCATION, REPLAYED],
    problems: &[
        &[
            ProblemKind::NotFound,
            ProblemKind::NotEnoughStock,
            ProblemKind::SaleNotOpen,
            ProblemKind::SaleOver,
            ProblemKind::OverLimit,
            ProblemKind::PriceChanged,
            ProblemKind::HoldEnded,
        ],
        ADMISSION,
    ],
};

/// A new order: either `product_id` and `quantity`, or `items`.
#[derive(Debug, Request)]
#[request(
    check = one_form,
    form(
        NewOrderOfOneProduct,
        "An order with one line.",
        needs(product_id, quantity),
        without(items)
    ),
    form(
        NewOrderOfItems,
        "An order with several lines.",
        needs(items),
        without(product_id, quantity, hold_id, expected_price)
    ),
    example("One product", { "product_id": 3, "quantity": 1, "customer_ref": "customer-42" }),
    example("Several lines", {
        "items": [{ "product_id": 3, "quantity": 2 }, { "product_id": 5, "quantity": 1, "expected_price": 21.75 }],
        "customer_ref": "customer-42",
        "metadata": { "cart": "c-1037" }
    })
)]
pub struct NewOrder {
    /// The id of the product.
    #[field(example = 3)]
    product_id: Option<ProductId>,
    /// The number of units, at most 1,000 by default.
    #[field(example = 1)]
    quantity: Option<Quantity>,
    /// The id of a hold of exactly these units. The order uses the hold, at the hold's price.
    hold_id: Option<HoldId>,
    /// The price of one unit that the customer has seen. If the price is another one, nothing is ordered: 409
    /// `price-changed`. For units of a hold, the hold's price counts.
    #[field(example = 499.90)]
    expected_price: Option<Money>,
    /// The lines, at most 50 by default. Either all are accepted or none. Two lines of the same product become
    /// one line with the sum of both.
    items: Option<OrderItems>,
    /// The shop's reference for the customer: 1 to 200 characters. An order from a hold belongs to the hold's customer,
    /// and may not name another one.
    #[field(example = "customer-42")]
    customer_ref: Option<NamedCustomer>,
    /// Data of the shop that is kept with the order: a JSON object of at most 4096 bytes, which is returned
    /// byte for byte.
    metadata: Option<Metadata>,
}

fn one_form(fields: &mut Fields<'_>) {
    if fields.has("items") {
        for name in ["product_id", "quantity", "hold_id", "expected_price"] {
            fields.refuse(name, "must not be given together with items");
        }
    } else {
        fields.need("product_id");
        fields.need("quantity");
    }
}

impl NewOrder {
    /// The order that a caller places.
    ///
    /// # Errors
    /// The id of a product is less than 1, so the product cannot exist.
    pub fn of(self, caller: &Caller, key: Option<&ClientKey>) -> Result<PlaceOrder, Problem> {
        let customer_ref = NamedCustomer::or_own(self.customer_ref, caller);
        let lines = match (self.items, self.product_id, self.quantity) {
            (Some(items), ..) => items.0,
            (None, Some(product_id), Some(quantity)) => {
                let (hold, expected_price) = (self.hold_id, self.expected_price);
                Lines::from_iter([RequestedLine { product_id, quantity, hold, expected_price }])
            }
            // `one_form` has checked that one of the two is given.
            (None, ..) => return Err(Problem::body("must have product_id and quantity, or items")),
        };
        // No id is less than 1, so this needs no place in a lane.
        if let Some(line) = lines.iter().find(|line| line.product_id.0 < 1) {
            return Err(Problem::unknown_product(line.product_id.0));
        }
        let metadata = self.metadata;
        let key = key.map(|key| {
            let customer = customer_ref.as_ref().map(CustomerRef::as_str);
            same_request::key(key.as_str(), caller.key_space(), &lines, customer, metadata.as_ref())
        });
        Ok(PlaceOrder { lines, customer_ref, metadata, trace_context: None, key })
    }
}

pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    KeyedBody { key, body }: KeyedBody<NewOrder>,
) -> Result<Created<AcceptedBody>, Problem> {
    let mut order = body.of(&caller, key.as_ref())?;
    check_holds(&app, &caller, &order.lines).await?;
    order.trace_context =
        traces::active().then(|| propagation::traceparent_of(&Span::current())).flatten();
    match app.admission.place_order(order).await? {
        OrderDecision::Accepted(order) => created(order.id, &AcceptedBody::new(order)),
        OrderDecision::Repeated(id) => {
            let order = app.store.order(id).await?;
            // A key's row is written with its order, and an order is not deleted before its key.
            let order = order.ok_or_else(|| Problem::internal(Refusal::Internal))?;
            app.admission.remember_answer(order.id, order.created_at);
            let answer = created(order.id, &AcceptedBody::of(&order))?;
            Ok(answer.with(idempotency::REPEATED, HeaderValue::from_static("true")))
        }
    }
}

/// A caller that acts for one customer can use only holds of that customer.
async fn check_holds(app: &App, caller: &Caller, lines: &Lines) -> Result<(), Problem> {
    if caller.customer().is_none() {
        return Ok(());
    }
    for id in lines.iter().filter_map(|line| line.hold) {
        // The customer of a hold never changes.
        let hold = app.store.hold(id).await?;
        if !hold.is_some_and(|hold| caller.may_see(hold.customer_ref.as_ref())) {
            return Err(holds::unknown(id.0));
        }
    }
    Ok(())
}

fn created(id: OrderId, body: &AcceptedBody) -> Result<Created<AcceptedBody>, Problem> {
    let location = Bytes::from(format!("/orders/{id}"));
    let location = HeaderValue::from_maybe_shared(location).map_err(Problem::internal)?;
    Ok(Created::new(body).with(header::LOCATION, location))
}

#[cfg(test)]
mod tests;
