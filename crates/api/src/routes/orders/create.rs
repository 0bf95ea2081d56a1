//! `POST /orders`

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use holdfast_domain::{Demand, OrderStatus, ProductId};
use holdfast_telemetry::propagation;
use utoipa::ToSchema;

use crate::{
    admission::Refusal,
    app::App,
    body::{Fields, JsonText, encode, receive, value},
    orders::AcceptedBody,
    problem::{Kind, Problem, ProblemSchema},
};

/// An order to be placed.
#[derive(ToSchema)]
#[schema(as = NewOrder)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct NewOrderSchema {
    /// What is ordered.
    #[schema(example = 3)]
    product_id: i64,
    /// How many units; the highest number allowed is a setting of the server, 1,000 by default.
    #[schema(example = 1, minimum = 1)]
    quantity: i64,
}

/// Place an order
///
/// With the answer 201 the order is committed and its stock taken; from then on it reaches a final
/// status, whatever happens. Any other answer took no stock, except `outcome-unknown` and `timeout`,
/// which say that nobody knows.
#[utoipa::path(
    post, path = "/orders", tag = "orders", operation_id = "create_order",
    request_body(content = NewOrderSchema),
    responses(
        (status = 201, description = "The order, as it was accepted", body = AcceptedBody,
            headers(("Location" = String, description = "Its path"))),
        (status = 404, description = "There is no such product, or it is no longer sold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Not enough is left; `left` tells how much",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Too many orders wait, the product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 504, description = "The answer took too long; the order may exist or not",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let demand = read(&receive(&headers, body, app.body).await?, app.max_quantity)?;
    let trace_context =
        app.traces.then(|| propagation::traceparent_of(&tracing::Span::current())).flatten();
    let accepted = app
        .admission
        .place(demand, trace_context)
        .await
        .map_err(|refusal| refused(demand.product_id, refusal))?;
    let body = encode(&AcceptedBody {
        id: accepted.id.0,
        product_id: demand.product_id.0,
        quantity: demand.quantity.units(),
        unit_price: accepted.unit_price.to_major_f64(),
        status: OrderStatus::Pending.as_str(),
        created_at: accepted.created_at,
    });
    let location = Bytes::from(format!("/orders/{}", accepted.id));
    let location = HeaderValue::from_maybe_shared(location).map_err(Problem::internal)?;

    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::LOCATION, location);
    Ok(response)
}

fn read(body: &Bytes, max_quantity: i32) -> Result<Demand, Problem> {
    let text = JsonText::check(body)?;
    let mut fields = Fields::read(&text, ["product_id", "quantity"])?;
    let product_id = fields.required("product_id", value::integer);
    let quantity = fields.required("quantity", value::quantity(max_quantity));
    fields.finish()?;
    match (product_id, quantity) {
        (Some(product_id), Some(quantity)) => {
            let product_id = ProductId(product_id);
            // No id is below 1: answered without a place in the lane.
            if product_id.0 < 1 {
                return Err(Problem::unknown_product(product_id.0));
            }
            Ok(Demand { product_id, quantity })
        }
        // `finish` has named what is missing.
        _ => Err(Problem::body("must have product_id and quantity")),
    }
}

fn refused(product_id: ProductId, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::UnknownProduct => Problem::unknown_product(product_id.0),
        Refusal::NotEnough { left } => Problem::not_enough_stock(product_id.0, left.units()),
        Refusal::Full => Problem::new(Kind::Overloaded),
        Refusal::LockTimeout => Problem::new(Kind::Locked),
        Refusal::Unavailable => Problem::new(Kind::Unavailable),
        Refusal::OutcomeUnknown => Problem::new(Kind::OutcomeUnknown),
        Refusal::ShuttingDown => Problem::new(Kind::ShuttingDown),
        Refusal::Internal => Problem::internal(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(body: &'static str) -> Vec<String> {
        let problem = read(&Bytes::from_static(body.as_bytes()), 1000).unwrap_err();
        assert_eq!(problem.kind(), Kind::Validation, "{body}");
        problem.fields().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn wrong_quantities_and_ids_are_named() {
        for quantity in
            ["0", "-5", "1.5", "\"1\"", "9223372036854775808", "null", "1001", "1e400", "NaN", "[]"]
        {
            let body = format!("{{\"product_id\":3,\"quantity\":{quantity}}}");
            assert_eq!(wrong(body.leak()), ["quantity"], "{quantity}");
        }
        assert_eq!(wrong(r#"{"quantity":0}"#), ["product_id", "quantity"]);
    }

    #[test]
    fn an_id_that_no_product_can_have_is_unknown() {
        let problem =
            read(&Bytes::from_static(br#"{"product_id":0,"quantity":1}"#), 10).unwrap_err();
        assert_eq!(problem.kind(), Kind::NotFound);
    }
}
