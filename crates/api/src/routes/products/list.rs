//! `GET /products`

use axum::{
    extract::State,
    http::{Method, Uri},
};
use holdfast_domain::{ProductId, ProductName};
use holdfast_store::{ProductPage, ProductPlace};

use crate::{
    access::Scope,
    app::App,
    cursor::{Cursor, CursorScope, PageAnswer, page},
    endpoint::{Access, Endpoint, READS, Tag},
    problem::Problem,
    products::ProductBody,
    request::{Fields, PageLimit, Query, Request, WholeNumber},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/products",
    path_example: "",
    access: Access::Customers(Scope::ProductsRead),
    tag: Tag::Products,
    operation_id: "list_products",
    summary: "List products",
    description: "By ascending id, or by name if `name` is given. The header `Link` leads to the next page; without it, the \
                  list is at its end. With `in_stock`, a page may be shorter than `limit`, or empty, and still have a next \
                  one; so may one of long descriptions, which ends after about 4 MiB. `skip` is for clients that number \
                  their pages.",
    answer: "The products",
    headers: &[],
    problems: &[READS],
};

/// The most products that can be skipped, since each costs as much as reading it: beyond that,
/// a cursor leads on.
const SKIP_MAX: i64 = 100_000;

/// Which products a list shows.
#[derive(Debug, Request)]
#[request(check = skip_alone)]
pub struct ListProducts {
    /// Leave out that many; 0 if not given. Not together with filters or a cursor
    #[field(nullable = false)]
    skip: Option<WholeNumber<0, SKIP_MAX>>,
    /// At most that many; 100 if not given
    #[field(nullable = false)]
    limit: Option<PageLimit>,
    /// Where the page begins, as the header Link of the page before has it; only with the same filters
    #[field(nullable = false)]
    cursor: Option<Cursor>,
    /// Only products whose name begins like this, without regard to case, in any language
    #[field(nullable = false)]
    name: Option<ProductName>,
    /// Only products that have units left (true), or have none (false)
    #[field(nullable = false)]
    in_stock: Option<bool>,
}

fn skip_alone(fields: &mut Fields<'_>) {
    if ["cursor", "name", "in_stock"].iter().any(|other| fields.has(other)) {
        fields.refuse("skip", "must not be given together with cursor, name or in_stock");
    }
}

pub(super) async fn list(
    State(app): State<App>,
    Query(asked): Query<ListProducts>,
    uri: Uri,
) -> Result<PageAnswer<ProductBody>, Problem> {
    let ListProducts { skip, limit, cursor, name, in_stock } = asked;
    let scope = CursorScope::new("products")
        .filter(name.as_ref().map(ProductName::as_str))
        .filter(in_stock);
    let after: Option<(String, i64)> = Cursor::position(cursor, &scope)?;
    let asked = ProductPage {
        after: after.map(|(name, id)| ProductPlace { name, id: ProductId(id) }),
        skip: skip.map_or(0, |skip| skip.0),
        name,
        in_stock,
        limit: limit.unwrap_or(PageLimit::DEFAULT).0,
    };
    let room = app.pages.reserve().await?;
    let found = app.store.products(&asked).await?;
    let products: Vec<_> = found.items.into_iter().map(ProductBody::from).collect();
    let next = found.next.map(|place| (place.name, place.id.0));
    Ok(page(&uri, &scope, &products, next.as_ref(), room))
}
