//! `GET /dead-letters`

use axum::{extract::State, http::Uri, response::Response};
use holdfast_domain::{OrderId, ProductId};
use holdfast_store::{DeadLetterFilter, DeadLetterPage, OrderPlace};

use crate::{
    app::App,
    cursor::{Scope, page},
    dead_letters::Time,
    orders::{OrderBody, View},
    problem::{Problem, ProblemSchema},
    query::Query,
};

/// The most dead letters of one answer.
const LIMIT_MAX: i64 = 1000;

/// The dead letters, newest orders first
///
/// A dead letter is an order that could not be fulfilled: `failure` says why. It keeps its units until
/// somebody replays or discards it.
///
/// The header `Link` leads to the next page; without it, the list has come to its end. With filters, a
/// page may be shorter than `limit`, empty even, and still have a next one.
#[utoipa::path(
    get, path = "/dead-letters", tag = "dead letters", operation_id = "list_dead_letters",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("cursor" = Option<String>, Query, min_length = 1,
            description = "Where the page begins, as the header Link of the page before has it; only with the same filters"),
        ("product_id" = Option<i64>, Query, description = "Only orders with this product on one of their lines"),
        ("failed_since" = Option<String>, Query, format = DateTime,
            description = "Only orders that failed at this time or later"),
        ("failed_before" = Option<String>, Query, format = DateTime,
            description = "Only orders that failed before this time"),
    ),
    responses(
        (status = 200, description = "The orders, all of which have failed", body = Vec<OrderBody>,
            headers(("Link" = String, description = "The next page, with rel=\"next\""))),
        (status = 422, description = "Parameters are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(uri.query());
    let limit = query.integer("limit", 1..=LIMIT_MAX);
    let product = query.integer("product_id", i64::MIN..=i64::MAX);
    let since = query.parsed::<Time>("failed_since", || Time::MUST.to_owned());
    let before = query.parsed::<Time>("failed_before", || Time::MUST.to_owned());
    let filter = DeadLetterFilter {
        product: product.map(ProductId),
        failed_since: since.map(|time| time.0),
        failed_before: before.map(|time| time.0),
    };
    let scope = Scope::new("dead-letters")
        .filter(product)
        .filter(filter.failed_since)
        .filter(filter.failed_before);
    let after: Option<(i64, i64)> = query.cursor(&scope);
    query.finish()?;
    let asked = DeadLetterPage {
        filter,
        after: after.map(|(created_us, id)| OrderPlace { created_us, id: OrderId(id) }),
        limit: limit.unwrap_or(100),
    };
    let room = app.pages.reserve().await?;
    let found = app.store.dead_letters(&asked).await?;
    let orders: Vec<_> = found.items.into_iter().map(|order| View::Shop.order(order)).collect();
    let next = found.next.map(|place| (place.created_us, place.id.0));
    Ok(page(&uri, &scope, &orders, next.as_ref(), room))
}
