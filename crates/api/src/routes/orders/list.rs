//! `GET /orders`

use axum::{
    extract::State,
    http::{Method, Uri},
};
use holdfast_domain::{CustomerRef, OrderId, ProductId};
use holdfast_store::{OrderPage, OrderPlace};

use crate::{
    access::{Caller, Scope},
    app::App,
    cursor::{Cursor, CursorScope, PageAnswer, page},
    endpoint::{Access, Endpoint, READS, Tag},
    orders::{OrderBody, Status, View},
    problem::Problem,
    request::{NamedCustomer, PageLimit, Query, Request},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/orders",
    path_example: "",
    access: Access::Customers(Scope::OrdersRead),
    tag: Tag::Orders,
    operation_id: "list_orders",
    summary: "List orders",
    description: "Newest first. The header `Link` has the next page; the last page has no such header. \
                  Orders that are placed in the meantime do not shift or repeat entries of later pages.\n\n\
                  Filters can be combined. One of them selects the index that is read (customer, product or status, \
                  in this order of preference), and the others are applied to the result. If few orders match, a \
                  page may therefore be shorter than `limit`, or empty, and still have a next page. The same is \
                  true of pages of large orders, which end after about 4 MiB.",
    answer: "The orders",
    headers: &[],
    problems: &[READS],
};

/// The filters of a list of orders.
#[derive(Debug, Request)]
pub struct ListOrders {
    /// The most entries on the page; 100 if not given
    #[field(nullable = false)]
    limit: Option<PageLimit>,
    /// The start of the page, from the header Link of the previous page; only with the same filters
    #[field(nullable = false)]
    pub cursor: Option<Cursor>,
    /// Only orders that contain this product
    #[field(nullable = false)]
    product_id: Option<ProductId>,
    /// Only orders of this customer
    #[field(nullable = false)]
    customer_ref: Option<NamedCustomer>,
    /// Only orders with this status
    #[field(nullable = false)]
    status: Option<Status>,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<ListOrders>,
    uri: Uri,
) -> Result<PageAnswer<OrderBody>, Problem> {
    let ListOrders { limit, cursor, product_id, customer_ref, status } = asked;
    let customer = NamedCustomer::or_own(customer_ref, &caller);
    let status = status.map(|Status(status)| status);
    let scope = CursorScope::new("orders")
        .filter(customer.as_ref().map(CustomerRef::as_str))
        .filter(product_id)
        .filter(status);
    let after: Option<(i64, i64)> = Cursor::position(cursor, &scope)?;
    let asked = OrderPage {
        after: after.map(|(created_us, id)| OrderPlace { created_us, id: OrderId(id) }),
        product: product_id,
        customer,
        status,
        limit: limit.unwrap_or(PageLimit::DEFAULT).0,
    };
    let room = app.pages.reserve().await?;
    let found = app.reads.orders(&asked).await?;
    let view = View::of(&caller);
    let orders: Vec<_> = found.items.into_iter().map(|order| view.order(order)).collect();
    let next = found.next.map(|place| (place.created_us, place.id.0));
    Ok(page(&uri, &scope, &orders, next.as_ref(), room))
}
