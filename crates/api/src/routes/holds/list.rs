//! `GET /holds`

use axum::{extract::State, http::Uri, response::Response};
use holdfast_domain::{CustomerRef, HoldId, HoldStatus, MAX_CUSTOMER_REF_CHARS, ProductId};
use holdfast_store::HoldPage;

use crate::{
    access::Caller,
    app::App,
    cursor::{Scope, page},
    holds::{HoldBody, HoldState, status_words},
    problem::{Problem, ProblemSchema},
    query::Query,
};

/// The most holds of one answer.
const LIMIT_MAX: i64 = 1000;

/// The holds, newest first
///
/// The header `Link` leads to the next page; without it, the list has come to its end. With filters, a
/// page may be shorter than `limit`, empty even, and still have a next one.
///
/// A hold whose time is over is `expired`, whether or not its units have been given back already.
#[utoipa::path(
    get, path = "/holds", tag = "holds", operation_id = "list_holds",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("cursor" = Option<String>, Query, min_length = 1,
            description = "Where the page begins, as the header Link of the page before has it; only with the same filters"),
        ("product_id" = Option<i64>, Query, description = "Only holds of this product"),
        ("customer_ref" = Option<String>, Query, min_length = 1, max_length = 200, description = "Only holds of this customer"),
        ("status" = Option<HoldState>, Query, description = "Only holds in this status"),
    ),
    responses(
        (status = 200, description = "The holds", body = Vec<HoldBody>,
            headers(("Link" = String, description = "The next page, with rel=\"next\""))),
        (status = 422, description = "Parameters are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(uri.query());
    let limit = query.integer("limit", 1..=LIMIT_MAX);
    let product = query.integer("product_id", i64::MIN..=i64::MAX);
    let customer = query.parsed::<CustomerRef>("customer_ref", || {
        format!("must be a text of 1 to {MAX_CUSTOMER_REF_CHARS} characters without NUL")
    });
    let customer = match (customer, caller.customer()) {
        (Some(named), Some(own)) if named != *own => {
            query.wrong("customer_ref", "must be that of the key or token, or left out");
            None
        }
        (named, own) => named.or_else(|| own.cloned()),
    };
    let status =
        query.parsed::<HoldStatus>("status", || format!("must be one of {}", status_words()));
    let scope = Scope::new("holds")
        .filter(customer.as_ref().map(CustomerRef::as_str))
        .filter(product)
        .filter(status);
    let after: Option<i64> = query.cursor(&scope);
    query.finish()?;
    let asked = HoldPage {
        after: after.map(HoldId),
        product: product.map(ProductId),
        customer,
        status,
        limit: limit.unwrap_or(100),
    };
    let room = app.pages.reserve().await?;
    let found = app.store.holds(&asked).await?;
    let holds: Vec<_> = found.items.into_iter().map(HoldBody::from).collect();
    Ok(page(&uri, &scope, &holds, found.next.map(|id| id.0).as_ref(), room))
}
