//! `PUT /sales/{name}`

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use holdfast_store::PutSaleError;

use super::named;
use crate::{
    app::App,
    body::receive,
    problem::{FieldError, Kind, Problem, ProblemSchema},
    sales::{self, SaleBody, SaleSchema},
};

/// Write a flash sale down, or change it
///
/// Orders and holds for its products are refused before its start and after its end, by the database's clock, on every
/// replica: from this answer on no order is placed by what was there before. With `per_customer`, every order and
/// hold for its products needs a `customer_ref`. Units that are held can be ordered after the end as well.
///
/// A product may be in several sales: it can be ordered while any of them is open, and the strictest limit holds.
#[utoipa::path(
    put, path = "/sales/{name}", tag = "flash sales", operation_id = "put_sale",
    params(("name" = String, Path, min_length = 1, max_length = 320, pattern = "^[a-z0-9._/-]+$",
        description = "What it is called; a `/` in it is sent as `%2F`")),
    request_body(content = SaleSchema),
    responses(
        (status = 200, description = "The sale as it is now", body = SaleBody),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "It has begun and its start or products would change, or there are too many sales",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named. Products that do not exist are, too",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "A product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SaleBody>, Problem> {
    let body = receive(&headers, body, app.body).await?;
    let sale = sales::read(named(name)?, &body)?;
    app.store.put_sale(&sale).await.map_err(refused)?;
    tracing::info!(name = sale.name.as_str(), starts_at = %sale.starts_at, "a sale was written down");
    let now = app.store.clock().await.map_err(Problem::after_change)?;
    Ok(Json(SaleBody::at(&sale, now)))
}

fn refused(error: PutSaleError) -> Problem {
    match error {
        PutSaleError::UnknownProducts(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let detail = format!("names what is not sold here: {}", ids.join(", "));
            Problem::validation(vec![FieldError::new("products", detail)])
        }
        PutSaleError::TooManySales(id) => Problem::with_detail(
            Kind::TooManySales,
            format!("The product {id} is in as many sales as it can be. Delete one that is over."),
        ),
        PutSaleError::Full => Problem::new(Kind::TooManySales),
        PutSaleError::Begun => Problem::new(Kind::SaleBegun),
        PutSaleError::Archived(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let detail = format!(
                "is before orders that have been archived, so per_customer cannot count all of these products: {}",
                ids.join(", ")
            );
            Problem::validation(vec![FieldError::new("starts_at", detail)])
        }
        PutSaleError::Store(error) => error.into(),
    }
}
