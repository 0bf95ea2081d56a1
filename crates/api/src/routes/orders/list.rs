//! `GET /orders`

use axum::{extract::State, http::Uri, response::Response};
use holdfast_domain::{CustomerRef, MAX_CUSTOMER_REF_CHARS, OrderId, OrderStatus, ProductId};
use holdfast_store::{OrderPage, OrderPlace};

use crate::{
    access::Caller,
    app::App,
    cursor::{Scope, page},
    orders::{OrderBody, Status, View, status_words},
    problem::{Problem, ProblemSchema},
    query::Query,
};

/// The most orders of one answer.
const LIMIT_MAX: i64 = 1000;

/// The orders, newest first
///
/// The header `Link` leads to the next page; without it, the list has come to its end. Orders that are
/// placed meanwhile neither shift nor repeat what follows.
///
/// Filters can be combined. The list is read along one of them, by customer, product or status, in
/// that order of preference, and the others are applied to what it finds. A page of a combination
/// that fits few orders may therefore be shorter than `limit`, empty even, and still have a next one; so may one
/// of orders with much in them, which ends after about 4 MiB.
#[utoipa::path(
    get, path = "/orders", tag = "orders", operation_id = "list_orders",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("cursor" = Option<String>, Query, min_length = 1,
            description = "Where the page begins, as the header Link of the page before has it; only with the same filters"),
        ("product_id" = Option<i64>, Query, description = "Only orders with this product on one of their lines"),
        ("customer_ref" = Option<String>, Query, min_length = 1, max_length = 200, description = "Only orders of this customer"),
        ("status" = Option<Status>, Query, description = "Only orders in this status"),
    ),
    responses(
        (status = 200, description = "The orders", body = Vec<OrderBody>,
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
        query.parsed::<OrderStatus>("status", || format!("must be one of {}", status_words()));
    let scope = Scope::new("orders")
        .filter(customer.as_ref().map(CustomerRef::as_str))
        .filter(product)
        .filter(status);
    let after: Option<(i64, i64)> = query.cursor(&scope);
    query.finish()?;
    let asked = OrderPage {
        after: after.map(|(created_us, id)| OrderPlace { created_us, id: OrderId(id) }),
        product: product.map(ProductId),
        customer,
        status,
        limit: limit.unwrap_or(100),
    };
    let room = app.pages.reserve().await?;
    let found = app.store.orders(&asked).await?;
    let view = View::of(&caller);
    let orders: Vec<_> = found.items.into_iter().map(|order| view.order(order)).collect();
    let next = found.next.map(|place| (place.created_us, place.id.0));
    Ok(page(&uri, &scope, &orders, next.as_ref(), room))
}
