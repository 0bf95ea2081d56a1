//! `POST /holds`

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use holdfast_admission::{HoldDecision, Refusal};
use holdfast_domain::{CustomerRef, HoldStatus};
use utoipa::ToSchema;

use crate::{
    access::Caller,
    app::App,
    body::receive,
    holds::HoldBody,
    idempotency, new_order,
    problem::{Problem, ProblemSchema},
};

/// Units to be kept.
#[derive(ToSchema)]
#[schema(as = NewHold)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct NewHoldSchema {
    /// Of which product.
    #[schema(example = 3)]
    product_id: i64,
    /// How many units.
    #[schema(example = 2, minimum = 1)]
    quantity: i64,
    /// For how many seconds; 900 if not given, at most 86,400 unless the server is set otherwise.
    #[schema(example = 600, minimum = 1)]
    seconds: Option<i64>,
    /// The shop's own name for the customer: 1 to 200 characters.
    #[schema(example = "customer-42")]
    customer_ref: Option<String>,
    /// What the customer was told that one unit costs, as `price` is given. At another price nothing is held: 409
    /// `price-changed`.
    #[schema(example = 499.90)]
    expected_price: Option<f64>,
}

/// Keep units for a customer for a while
///
/// With the answer 201 the units are taken from stock and sold to nobody else until the hold's time is over. An order that
/// names the hold takes them, at the price of now. What is not ordered by then comes back by
/// itself.
#[utoipa::path(
    post, path = "/holds", tag = "holds", operation_id = "create_hold",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
        description = "Makes it safe to send the same request again: 1 to 255 visible ASCII characters")),
    request_body(content = NewHoldSchema),
    responses(
        (status = 201, description = "The hold; the repeat of a request shows it as it is now", body = HoldBody,
            headers(
                ("Location" = String, description = "Its path"),
                ("Idempotency-Replayed" = String, description = "`true` if an earlier request with the same key made it"),
            )),
        (status = 404, description = "There is no such product, or it is no longer sold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Not enough is left (`left` tells how much), or the price is another one (`current_price`)",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong (all of them are named), or the key came before with another request",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Too many orders wait, the product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 504, description = "The answer took too long; the hold may exist or not",
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
    let request = new_order::hold(&headers, &body, &app.limits, &caller)?;
    match app.admission.hold(request).await? {
        HoldDecision::Accepted(hold) => created(HoldBody {
            id: hold.id.0,
            product_id: hold.product_id.0,
            quantity: hold.quantity.units(),
            unit_price: hold.unit_price.to_major_f64(),
            status: HoldStatus::Active.as_str(),
            customer_ref: hold.customer_ref.map(CustomerRef::into_inner),
            expires_at: hold.created_at.checked_add(hold.lasts).map_err(Problem::internal)?,
            created_at: hold.created_at,
            order_id: None,
        }),
        HoldDecision::Repeated(id) => {
            let hold = app.store.hold(id).await?;
            let hold = hold.ok_or_else(|| Problem::internal(Refusal::Internal))?;
            let mut answer = created(HoldBody::from(hold))?;
            answer.headers_mut().insert(idempotency::REPEATED, HeaderValue::from_static("true"));
            Ok(answer)
        }
    }
}

fn created(hold: HoldBody) -> Result<Response, Problem> {
    let location =
        HeaderValue::from_str(&format!("/holds/{}", hold.id)).map_err(Problem::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(hold)).into_response())
}
