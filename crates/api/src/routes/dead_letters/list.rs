//! `GET /dead-letters`

use axum::{
    extract::State,
    http::{Method, Uri},
};
use holdfast_domain::{OrderId, ProductId};
use holdfast_store::{DeadLetterFilter, DeadLetterPage, OrderPlace};

use crate::{
    access::Scope,
    app::App,
    cursor::{Cursor, CursorScope, PageAnswer, page},
    endpoint::{Access, Endpoint, READS, Tag},
    orders::{OrderBody, View},
    problem::Problem,
    request::{FilterTime, PageLimit, Query, Request},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/dead-letters",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::DeadLetters,
    operation_id: "list_dead_letters",
    summary: "List dead letters",
    description: "Newest orders first. A dead letter is an order that could not be fulfilled; `failure` has the \
                  reason. The order keeps its units until an operator replays or discards it.\n\n\
                  The header `Link` has the next page; the last page has no such header. With filters, \
                  a page may be shorter than `limit`, or empty, and still have a next page.",
    answer: "The failed orders",
    headers: &[],
    problems: &[READS],
};

/// The filters of a list of dead letters.
#[derive(Debug, Request)]
pub struct ListDeadLetters {
    /// The most entries on the page; 100 if not given
    #[field(nullable = false)]
    limit: Option<PageLimit>,
    /// The start of the page, from the header Link of the previous page; only with the same filters
    #[field(nullable = false)]
    cursor: Option<Cursor>,
    /// Only orders that contain this product
    #[field(nullable = false)]
    product_id: Option<ProductId>,
    /// Only orders that failed at or after this time
    #[field(nullable = false)]
    failed_since: Option<FilterTime>,
    /// Only orders that failed before this time
    #[field(nullable = false)]
    failed_before: Option<FilterTime>,
}

pub(super) async fn list(
    State(app): State<App>,
    Query(asked): Query<ListDeadLetters>,
    uri: Uri,
) -> Result<PageAnswer<OrderBody>, Problem> {
    let ListDeadLetters { limit, cursor, product_id, failed_since, failed_before } = asked;
    let filter = DeadLetterFilter {
        product: product_id,
        failed_since: failed_since.map(|time| time.0),
        failed_before: failed_before.map(|time| time.0),
    };
    let scope = CursorScope::new("dead-letters")
        .filter(product_id)
        .filter(filter.failed_since)
        .filter(filter.failed_before);
    let after: Option<(i64, i64)> = Cursor::position(cursor, &scope)?;
    let asked = DeadLetterPage {
        filter,
        after: after.map(|(created_us, id)| OrderPlace { created_us, id: OrderId(id) }),
        limit: limit.unwrap_or(PageLimit::DEFAULT).0,
    };
    let room = app.pages.reserve().await?;
    let found = app.reads.dead_letters(&asked).await?;
    let orders: Vec<_> = found.items.into_iter().map(|order| View::Shop.order(order)).collect();
    let next = found.next.map(|place| (place.created_us, place.id.0));
    Ok(page(&uri, &scope, &orders, next.as_ref(), room))
}
