//! `GET /products/{id}/stock-ledger`

use axum::{
    extract::State,
    http::{Method, Uri},
};
use holdfast_domain::ProductId;

use crate::{
    access::Scope,
    app::App,
    cursor::{Cursor, CursorScope, ListPart, PageAnswer, page},
    endpoint::{Access, Endpoint, READS, Tag},
    problem::{Problem, ProblemKind},
    request::{Id, PageLimit, Query},
    stock_ledger::LedgerBody,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/products/{id}/stock-ledger",
    path_example: "3",
    access: Access::Shop(Scope::ProductsRead),
    tag: Tag::Products,
    operation_id: "list_stock_ledger",
    summary: "List the changes of a product's stock",
    description: "Newest first. The `delta`s of all entries add up to the stock. Orders, cancellations and holds that were \
                  admitted in one batch are one entry. Orders for the same product within a second can share an entry, so the \
                  newest entry can still grow; not in a flash sale. The header `Link` has the next page; the last page has no such header. \
                  A deleted product keeps its ledger.",
    answer: "The changes",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], READS],
};

pub(super) async fn list(
    State(app): State<App>,
    id: Id<ProductId>,
    Query(asked): Query<ListPart>,
    uri: Uri,
) -> Result<PageAnswer<LedgerBody>, Problem> {
    let id = id.0;
    let limit = asked.limit.unwrap_or(PageLimit::DEFAULT).0;
    let scope = CursorScope::new("stock-ledger").filter(Some(id));
    let before: Option<i64> = Cursor::position(asked.cursor, &scope)?;
    let room = app.pages.reserve().await?;
    let found = app.reads.stock_ledger(ProductId(id), before, limit).await?;
    // Each product has at least the entry of its opening stock.
    if found.items.is_empty() && before.is_none() {
        return Err(Problem::unknown_product(id));
    }
    let entries: Vec<_> = found.items.into_iter().map(LedgerBody::from).collect();
    Ok(page(&uri, &scope, &entries, found.next.as_ref(), room))
}
