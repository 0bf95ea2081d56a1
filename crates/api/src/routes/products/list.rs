//! `GET /products`

use axum::{extract::State, http::Uri, response::Response};
use holdfast_domain::{MAX_NAME_CHARS, ProductId, ProductName};
use holdfast_store::{ProductPage, ProductPlace};

use crate::{
    app::App,
    cursor::{CURSOR, Scope, page},
    problem::{Problem, ProblemSchema},
    products::ProductBody,
    query::Query,
};

/// The most products of one answer.
const LIMIT_MAX: i64 = 1000;
/// The most products that can be skipped, since each costs as much as reading it: beyond that,
/// a cursor leads on.
const SKIP_MAX: i64 = 100_000;

/// The products on sale
///
/// By ascending id, or by name if `name` is given. The header `Link` leads to the next page; without it,
/// the list has come to its end. With `in_stock`, a page may be shorter than `limit`, empty even, and
/// still have a next one; so may one of long descriptions, which ends after about 4 MiB. `skip` is for clients that number their pages.
#[utoipa::path(
    get, path = "/products", tag = "products", operation_id = "list_products",
    params(
        ("skip" = Option<i64>, Query, minimum = 0, maximum = 100_000,
            description = "Leave out that many; 0 if not given. Not together with filters or a cursor"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("cursor" = Option<String>, Query, min_length = 1,
            description = "Where the page begins, as the header Link of the page before has it; only with the same filters"),
        ("name" = Option<String>, Query, min_length = 1, max_length = 200,
            description = "Only products whose name begins like this, in upper or lower case"),
        ("in_stock" = Option<bool>, Query,
            description = "Only products that have units left (true), or have none (false)"),
    ),
    responses(
        (status = 200, description = "The products", body = Vec<ProductBody>,
            headers(("Link" = String, description = "The next page, with rel=\"next\""))),
        (status = 422, description = "Parameters are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(uri.query());
    let skip = query.integer("skip", 0..=SKIP_MAX);
    let limit = query.integer("limit", 1..=LIMIT_MAX);
    let name = query.parsed::<ProductName>("name", || {
        format!("must be a text of 1 to {MAX_NAME_CHARS} characters without NUL")
    });
    let in_stock = query.parsed::<bool>("in_stock", || "must be true or false".to_owned());
    if skip.is_some() && [CURSOR, "name", "in_stock"].iter().any(|other| query.has(other)) {
        query.wrong("skip", "must not be given together with cursor, name or in_stock");
    }
    let scope =
        Scope::new("products").filter(name.as_ref().map(ProductName::as_str)).filter(in_stock);
    let after: Option<(String, i64)> = query.cursor(&scope);
    query.finish()?;
    let asked = ProductPage {
        after: after.map(|(name, id)| ProductPlace { name, id: ProductId(id) }),
        skip: skip.unwrap_or(0),
        name,
        in_stock,
        limit: limit.unwrap_or(100),
    };
    let room = app.pages.reserve().await?;
    let found = app.store.products(&asked).await?;
    let products: Vec<_> = found.items.into_iter().map(ProductBody::from).collect();
    let next = found.next.map(|place| (place.name, place.id.0));
    Ok(page(&uri, &scope, &products, next.as_ref(), room))
}
