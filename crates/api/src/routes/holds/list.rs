//! `GET /holds`

use axum::{
    extract::State,
    http::{Method, Uri},
};
use holdfast_domain::{CustomerRef, HoldId, ProductId};
use holdfast_store::HoldPage;

use crate::{
    access::{Caller, Scope},
    app::App,
    cursor::{Cursor, CursorScope, PageAnswer, page},
    endpoint::{Access, Endpoint, READS, Tag},
    holds::{HoldBody, HoldState},
    problem::Problem,
    request::{NamedCustomer, PageLimit, Query, Request},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/holds",
    path_example: "",
    access: Access::Customers(Scope::OrdersRead),
    tag: Tag::Holds,
    operation_id: "list_holds",
    summary: "List holds",
    description: "Newest first. The header `Link` has the next page; the last page has no such header. \
                  With filters, a page may be shorter than `limit`, or empty, and still have a next page.\n\n\
                  A hold is `expired` as soon as its time is over, even if its units have not been returned to \
                  stock yet.",
    answer: "The holds",
    headers: &[],
    problems: &[READS],
};

/// The filters of a list of holds.
#[derive(Debug, Request)]
pub struct ListHolds {
    /// The most entries on the page; 100 if not given
    #[field(nullable = false)]
    limit: Option<PageLimit>,
    /// The start of the page, from the header Link of the previous page; only with the same filters
    #[field(nullable = false)]
    cursor: Option<Cursor>,
    /// Only holds of this product
    #[field(nullable = false)]
    product_id: Option<ProductId>,
    /// Only holds of this customer
    #[field(nullable = false)]
    customer_ref: Option<NamedCustomer>,
    /// Only holds with this status
    #[field(nullable = false)]
    status: Option<HoldState>,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<ListHolds>,
    uri: Uri,
) -> Result<PageAnswer<HoldBody>, Problem> {
    let ListHolds { limit, cursor, product_id, customer_ref, status } = asked;
    let customer = NamedCustomer::or_own(customer_ref, &caller);
    let status = status.map(|HoldState(status)| status);
    let scope = CursorScope::new("holds")
        .filter(customer.as_ref().map(CustomerRef::as_str))
        .filter(product_id)
        .filter(status);
    let after: Option<i64> = Cursor::position(cursor, &scope)?;
    let asked = HoldPage {
        after: after.map(HoldId),
        product: product_id,
        customer,
        status,
        limit: limit.unwrap_or(PageLimit::DEFAULT).0,
    };
    let room = app.pages.reserve().await?;
    let found = app.reads.holds(&asked).await?;
    let holds: Vec<_> = found.items.into_iter().map(HoldBody::from).collect();
    Ok(page(&uri, &scope, &holds, found.next.map(|id| id.0).as_ref(), room))
}
