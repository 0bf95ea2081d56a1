//! `GET /products/{id}/stock-ledger`

use axum::{extract::State, http::Uri, response::Response};
use holdfast_domain::ProductId;

use crate::{
    app::App,
    cursor::{Scope, page},
    problem::{Problem, ProblemSchema},
    query::Query,
    routes::extract::ParentId,
    stock_ledger::LedgerBody,
};

/// The most entries of one answer.
const LIMIT_MAX: i64 = 1000;

/// Why a product has the stock that it has
///
/// Each change of its stock, newest first. The `delta`s of all entries add up to the stock. Orders,
/// cancellations and holds that were admitted in one batch are one entry. The header `Link` leads to
/// the next page; without it, the list has come to its end. A product that was taken out of the shop
/// keeps its ledger.
#[utoipa::path(
    get, path = "/products/{id}/stock-ledger", tag = "products", operation_id = "list_stock_ledger",
    params(
        ("id" = i64, Path, description = "The product's id"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("cursor" = Option<String>, Query, min_length = 1,
            description = "Where the page begins, as the header Link of the page before has it"),
    ),
    responses(
        (status = 200, description = "The changes", body = Vec<LedgerBody>,
            headers(("Link" = String, description = "The next page, with rel=\"next\""))),
        (status = 404, description = "There never was such a product",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The id or parameters are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(app): State<App>,
    ParentId(id): ParentId,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::read(uri.query());
    let limit = query.integer("limit", 1..=LIMIT_MAX).unwrap_or(100);
    let scope = Scope::new("stock-ledger").filter(Some(id));
    let before: Option<i64> = query.cursor(&scope);
    query.finish()?;
    let room = app.pages.reserve().await?;
    let found = app.store.stock_ledger(ProductId(id), before, limit).await?;
    // Each product has at least the entry that it began with.
    if found.items.is_empty() && before.is_none() {
        return Err(Problem::unknown_product(id));
    }
    let entries: Vec<_> = found.items.into_iter().map(LedgerBody::from).collect();
    Ok(page(&uri, &scope, &entries, found.next.as_ref(), room))
}
