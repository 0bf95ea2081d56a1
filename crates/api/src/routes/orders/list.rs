//! `GET /orders`

use axum::{Json, extract::State, http::Uri};
use holdfast_domain::{OrderId, OrderStatus, ProductId};
use holdfast_store::OrderPage;

use crate::{
    app::App,
    orders::{OrderBody, Status, status_words},
    problem::{Problem, ProblemSchema},
    query::Query,
};

/// The most orders of one answer.
const LIMIT_MAX: i64 = 1000;

/// The orders, newest first
///
/// Hand the last id of a page to `before` to get the next one.
#[utoipa::path(
    get, path = "/orders", tag = "orders", operation_id = "list_orders",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("before" = Option<i64>, Query, minimum = 0,
            description = "Only orders with a smaller id"),
        ("product_id" = Option<i64>, Query, description = "Only orders of this product"),
        ("status" = Option<Status>, Query, description = "Only orders in this status"),
    ),
    responses(
        (status = 200, description = "The orders", body = Vec<OrderBody>),
        (status = 422, description = "Parameters are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>, uri: Uri) -> Result<Json<Vec<OrderBody>>, Problem> {
    let mut query = Query::read(uri.query());
    let limit = query.integer("limit", 1..=LIMIT_MAX);
    let before = query.integer("before", 0..=i64::MAX);
    let product = query.integer("product_id", i64::MIN..=i64::MAX);
    let status =
        query.parsed::<OrderStatus>("status", || format!("must be one of {}", status_words()));
    query.finish()?;
    let page = OrderPage {
        before: before.map(OrderId),
        product: product.map(ProductId),
        status,
        limit: limit.unwrap_or(100),
    };
    let orders = app.store.orders(&page).await?;
    Ok(Json(orders.into_iter().map(OrderBody::from).collect()))
}
