//! `POST /orders`

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use holdfast_admission::{OrderDecision, Refusal};
use holdfast_domain::{Lines, OrderId};
use holdfast_telemetry::{propagation, traces};
use tracing::Span;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    app::App,
    body::{encode, receive},
    holds, idempotency, new_order,
    orders::AcceptedBody,
    problem::{Problem, ProblemSchema},
};

/// An order to be placed: either `product_id` and `quantity`, or `items`.
#[derive(ToSchema)]
#[schema(as = NewOrder)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct NewOrderSchema {
    /// What is ordered.
    #[schema(example = 3)]
    product_id: Option<i64>,
    /// How many units; the highest number allowed is a setting of the server, 1,000 by default.
    #[schema(example = 1, minimum = 1)]
    quantity: Option<i64>,
    /// A hold that keeps exactly these units: the order takes them, at the hold's price.
    hold_id: Option<i64>,
    /// What the customer was told that one unit costs, as `price` is given. At another price nothing is ordered:
    /// 409 `price-changed`. From a hold, the hold's price counts.
    #[schema(example = 499.90)]
    expected_price: Option<f64>,
    /// Several lines, all of which are accepted or none; at most 50 unless the server is set
    /// otherwise. The same product on two lines is one line with the sum of both.
    items: Option<Vec<NewItemSchema>>,
    /// The shop's own name for the customer: 1 to 200 characters. An order from a hold is that of the hold's customer:
    /// it may leave this out, and may not name another.
    #[schema(example = "customer-42")]
    customer_ref: Option<String>,
    /// Whatever the shop wants to keep with the order: a JSON object of at most 4096 bytes, which
    /// comes back byte for byte.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// A line of an order to be placed.
#[derive(ToSchema)]
#[schema(as = NewItem)]
#[allow(dead_code)] // only for the OpenAPI document
pub struct NewItemSchema {
    /// What is ordered.
    #[schema(example = 3)]
    product_id: i64,
    /// How many units.
    #[schema(example = 1, minimum = 1)]
    quantity: i64,
    /// A hold that keeps exactly these units.
    hold_id: Option<i64>,
    /// What the customer was told that one unit costs, as `price` is given.
    #[schema(example = 499.90)]
    expected_price: Option<f64>,
}

/// Place an order
///
/// With the answer 201 the order is committed and its stock taken; from then on it reaches a final
/// status, whatever happens. Any other answer took no stock, except `outcome-unknown` and `timeout`,
/// which say that nobody knows.
///
/// With an `Idempotency-Key`, the same request can be sent again without fear: it is answered with the same
/// order as it is by then, also while the first is still being worked on (the second waits for it), on another
/// replica, and after a crash. Keys are kept for 24 hours unless the server is set otherwise. A request that
/// was refused leaves no key behind.
#[utoipa::path(
    post, path = "/orders", tag = "orders", operation_id = "create_order",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
        description = "Makes it safe to send the same request again: 1 to 255 visible ASCII characters")),
    request_body(content = NewOrderSchema),
    responses(
        (status = 201, description = "The order, as it was accepted; the repeat of a request shows the order as it is now", body = AcceptedBody,
            headers(
                ("Location" = String, description = "Its path"),
                ("Idempotency-Replayed" = String, description = "`true` if an earlier request with the same key placed it"),
            )),
        (status = 404, description = "There is no such product or hold, or the product is no longer sold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Not enough is left (`left` tells how much), the price is another one (`current_price`), or the hold is over",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong (all of them are named), or the key came before with another request",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Too many orders wait, the product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 504, description = "The answer took too long; the order may exist or not",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = receive(&headers, body, app.body).await?;
    let mut order = new_order::order(&headers, &body, &app.limits, &caller)?;
    check_holds(&app, &caller, &order.lines).await?;
    order.trace_context =
        traces::active().then(|| propagation::traceparent_of(&Span::current())).flatten();
    match app.admission.place_order(order).await? {
        OrderDecision::Accepted(order) => created(order.id, encode(&AcceptedBody::new(order))),
        OrderDecision::Repeated(id) => {
            let order = app.store.order(id).await?;
            // A key's row is written with its order, and orders are not deleted while keys last.
            let order = order.ok_or_else(|| Problem::internal(Refusal::Internal))?;
            let mut answer = created(order.id, encode(&AcceptedBody::of(&order)))?;
            answer.headers_mut().insert(idempotency::REPEATED, HeaderValue::from_static("true"));
            Ok(answer)
        }
    }
}

/// A caller that acts for one customer orders only from holds of that customer.
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

fn created(id: OrderId, body: Bytes) -> Result<Response, Problem> {
    let location = Bytes::from(format!("/orders/{id}"));
    let location = HeaderValue::from_maybe_shared(location).map_err(Problem::internal)?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::LOCATION, location);
    Ok(response)
}
