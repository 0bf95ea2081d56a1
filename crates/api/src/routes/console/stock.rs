//! `GET /stock`

use axum::{
    extract::State,
    http::{Method, Uri},
};
use holdfast_domain::ProductId;
use holdfast_store::StockLevel;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::Scope,
    app::App,
    cursor::{Cursor, CursorScope, ListPart, PageAnswer, page},
    endpoint::{Access, Endpoint, READS, Tag},
    problem::Problem,
    request::{PageLimit, Query},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/stock",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::Console,
    operation_id: "list_stock",
    summary: "List the stock of all products",
    description: "By ascending id, with the units in holds. The header `Link` has the next page; the last page has no such \
                  header.",
    answer: "The products",
    headers: &[],
    problems: &[READS],
};

/// The stock of a product.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = StockLevel)]
pub struct StockBody {
    /// The id of the product.
    #[schema(example = 3)]
    id: i64,
    /// The name of the product.
    #[schema(example = "Espresso machine")]
    name: String,
    /// Units that can be ordered.
    #[schema(example = 25)]
    stock: i64,
    /// Units in holds. They are not part of `stock`.
    #[schema(example = 2)]
    held: i64,
}

impl From<StockLevel> for StockBody {
    fn from(level: StockLevel) -> Self {
        Self {
            id: level.id.0,
            name: level.name.as_str().to_owned(),
            stock: level.stock.units(),
            held: level.held,
        }
    }
}

pub(super) async fn list(
    State(app): State<App>,
    Query(ListPart { limit, cursor }): Query<ListPart>,
    uri: Uri,
) -> Result<PageAnswer<StockBody>, Problem> {
    let scope = CursorScope::new("stock");
    let after: Option<i64> = Cursor::position(cursor, &scope)?;
    let limit = limit.unwrap_or(PageLimit::DEFAULT).0;
    let room = app.pages.reserve().await?;
    let found = app.reads.stock_levels(after.map(ProductId), limit).await?;
    let levels: Vec<_> = found.items.into_iter().map(StockBody::from).collect();
    let next = found.next.map(|id| id.0);
    Ok(page(&uri, &scope, &levels, next.as_ref(), room))
}
