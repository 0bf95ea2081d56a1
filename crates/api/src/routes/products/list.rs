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
    description: "By ascending id, or by name if `name` is given. The header `Link` has the next page; the last page has no such \
                  header. With `in_stock`, a page may be shorter than `limit`, or empty, and still have a next page. The same is \
                  true of pages of products with long descriptions, which end after about 4 MiB. `skip` is for clients with \
                  numbered pages.",
    answer: "The products",
    headers: &[],
    problems: &[READS],
};

/// The most products that can be skipped, because skipping a product costs as much as reading it. Use a cursor instead.
const SKIP_MAX: i64 = 100_000;

/// The filters of a list of products.
#[derive(Debug, Request)]
#[request(check = skip_alone)]
pub struct ListProducts {
    /// The number of products to skip; 0 if not given. Not together with filters or a cursor
    #[field(nullable = false)]
    skip: Option<WholeNumber<0, SKIP_MAX>>,
    /// The most entries on the page; 100 if not given
    #[field(nullable = false)]
    limit: Option<PageLimit>,
    /// The start of the page, from the header Link of the previous page; only with the same filters
    #[field(nullable = false)]
    cursor: Option<Cursor>,
    /// Only products whose name begins with this text, ignoring case, in any language
    #[field(nullable = false)]
    name: Option<ProductName>,
    /// Only products that have units left (true) or have none (false)
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
    let found = app.reads.products(&asked).await?;
    let products: Vec<_> = found.items.into_iter().map(ProductBody::from).collect();
    let next = found.next.map(|place| (place.name, place.id.0));
    Ok(page(&uri, &scope, &products, next.as_ref(), room))
}
