//! `PUT /products/{id}`

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use holdfast_domain::{LedgerReason, Product, ProductId, ProductPatch, Stock, StockEdit};
use utoipa::ToSchema;

use crate::{
    app::App,
    body::{Fields, JsonText, receive, value},
    etag::{Preconditions, Tag},
    problem::{FieldError, Problem, ProblemSchema},
    products::ProductBody,
    routes::extract::PathId,
};

/// What to change of a product. What is left out stays.
#[derive(ToSchema)]
#[schema(as = ProductPatch)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct ProductPatchSchema {
    /// 1 to 200 characters.
    #[schema(nullable = false, example = "Espresso machine", min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Up to 10,000 characters; null takes it away.
    #[schema(example = "Two groups, brass", max_length = 10_000)]
    description: Option<String>,
    /// What one unit costs, for orders from now on.
    #[schema(nullable = false, example = 449.00, minimum = 0, maximum = 99_999_999.99)]
    price: Option<f64>,
    /// Units to be sold, in place of what is there. Combine it with `version` unless nothing is
    /// sold at the moment.
    #[schema(nullable = false, minimum = 0, maximum = 1_000_000_000)]
    stock: Option<i64>,
    /// Units to be added to what is there, or taken from it if negative. Not together with
    /// `stock`.
    #[schema(nullable = false, example = 10)]
    stock_change: Option<i64>,
    /// Change only if the product still is at this version.
    #[schema(nullable = false, minimum = 1)]
    version: Option<i64>,
}

/// Change a product
///
/// Only the fields that are given change. While orders take stock, a new `stock` that was worked out
/// from an older one would give back what they have taken. Two ways lose nothing:
///
/// - `stock_change` adds to what is there, while the product is locked: for goods that come in.
///   (`POST /products/{id}/stock` does the same, with a reason and safe to be sent again.)
/// - `version` or the header `If-Match` make the change conditional: if anything has changed since (a
///   sale included), the answer is 409 or 412 with the product's `version` now, and nothing happens.
#[utoipa::path(
    put, path = "/products/{id}", tag = "products", operation_id = "update_product",
    params(
        ("id" = i64, Path, description = "The product's id"),
        ("If-Match" = Option<String>, Header, description = "Only if this is still the product's ETag"),
    ),
    request_body(content = ProductPatchSchema),
    responses(
        (status = 200, description = "The product, as it is now", body = ProductBody,
            headers(("ETag" = String, description = "Names the product as it is now"))),
        (status = 404, description = "There is no such product, or it is no longer sold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "The product has another version by now",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 412, description = "The product is not the one that If-Match names",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(app): State<App>,
    PathId(id): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let change = read(&receive(&headers, body, app.body).await?)?;
    let conditions = Preconditions::read(&headers)?;
    if id < 1 {
        return Err(Problem::unknown_product(id));
    }
    let locked = app.store.lock_product(ProductId(id)).await?;
    let locked = locked.ok_or_else(|| Problem::unknown_product(id))?;
    conditions.check(locked.product())?;
    let Some(patch) = change.applied_to(locked.product(), locked.max_stock())? else {
        return Ok(answer(locked.product().clone()));
    };
    // Before the commit, so that no reader can put the old product into the cache afterwards. If
    // this task is cancelled in between, or nobody knows whether the commit happened, dropping
    // `raised` tells the cache to ask the database.
    let raised = app.cache.raise(&[(id, locked.next_version())]).await;
    let product = locked.update(&patch).await?;
    raised.changed();
    Ok(answer(product))
}

fn answer(product: Product) -> Response {
    let product = ProductBody::from(product);
    let etag = [(header::ETAG, Tag::of(&product).header())];
    (etag, Json(product)).into_response()
}

/// What a body asks for.
#[derive(Debug)]
pub struct Change {
    patch: ProductPatch,
    /// Units to be added to the stock.
    delta: Option<i64>,
    /// The change happens only if the product still has this version.
    expected_version: Option<i64>,
}

impl Change {
    /// The patch for the locked `product`, whose stock may be `max_stock` at most; `None` if
    /// nothing is to change.
    fn applied_to(
        self,
        product: &Product,
        max_stock: i64,
    ) -> Result<Option<ProductPatch>, Problem> {
        let Self { mut patch, delta, expected_version } = self;
        if expected_version.is_some_and(|expected| expected != product.version) {
            return Err(Problem::version_conflict(product.id.0, product.version));
        }
        let wrong = |field, what: &str| {
            Problem::validation(vec![FieldError::new(
                field,
                format!(
                    "must {what} between 0 and {max_stock}; it is {} now",
                    product.stock.units()
                ),
            )])
        };
        if patch.stock.as_ref().is_some_and(|edit| edit.stock.units() > max_stock) {
            return Err(wrong("stock", "be"));
        }
        if let Some(delta) = delta {
            let sum = product.stock.units().checked_add(delta).filter(|sum| *sum <= max_stock);
            let stock = sum
                .and_then(|sum| Stock::new(sum).ok())
                .ok_or_else(|| wrong("stock_change", "leave a stock"))?;
            let reason = LedgerReason::Adjustment;
            patch.stock = Some(StockEdit { stock, reason, note: None });
        }
        Ok((!patch.is_empty()).then_some(patch))
    }
}

/// Reads a change of a product.
pub fn read(body: &Bytes) -> Result<Change, Problem> {
    let text = JsonText::check(body)?;
    let mut fields =
        Fields::read(&text, ["name", "description", "price", "stock", "stock_change", "version"])?;
    let patch = ProductPatch {
        name: fields.optional("name", value::name),
        description: fields.nullable("description", value::description),
        price: fields.optional("price", value::price),
        stock: fields.optional("stock", value::stock).map(StockEdit::set),
    };
    let expected_version = fields.optional("version", value::integer);
    let delta = fields.optional("stock_change", value::integer);
    if patch.stock.is_some() && delta.is_some() {
        fields.wrong("stock_change", "must not be given together with stock");
    }
    fields.finish()?;
    Ok(Change { patch, delta, expected_version })
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{Money, ProductName};

    use super::*;
    use crate::problem::Kind;

    fn product() -> Product {
        Product {
            id: ProductId(7),
            name: ProductName::new("x".to_owned()).unwrap(),
            description: None,
            price: Money::from_minor(100).unwrap(),
            stock: Stock::new(5).unwrap(),
            version: 3,
        }
    }

    fn change(body: &'static str) -> Result<Option<ProductPatch>, Problem> {
        read(&Bytes::from_static(body.as_bytes()))?.applied_to(&product(), 100)
    }

    #[test]
    fn nothing_given_is_nothing_changed() {
        assert_eq!(change("{}").unwrap(), None);
        assert_eq!(change(r#"{"id":9,"colour":"red","version":3}"#).unwrap(), None);
    }

    #[test]
    fn null_takes_away_a_description_and_nothing_else() {
        let patch = change(r#"{"description":null}"#).unwrap().unwrap();
        assert_eq!(patch.description, Some(None));
        let problem =
            change(r#"{"name":null,"price":null,"stock":null,"version":null}"#).unwrap_err();
        let mut fields: Vec<_> = problem.fields().collect();
        fields.sort_unstable();
        assert_eq!(fields, ["name", "price", "stock", "version"]);
    }

    #[test]
    fn a_relative_change_is_made_of_the_locked_stock() {
        let stock = |body| change(body).unwrap().unwrap().stock.unwrap().stock.units();
        assert_eq!(stock(r#"{"stock_change":10}"#), 15);
        assert_eq!(stock(r#"{"stock_change":-5}"#), 0);
        for body in [
            r#"{"stock_change":-6}"#,
            r#"{"stock_change":96}"#,
            r#"{"stock_change":9223372036854775807}"#,
            r#"{"stock_change":1,"stock":1}"#,
        ] {
            let problem = change(body).unwrap_err();
            assert_eq!(problem.fields().collect::<Vec<_>>(), ["stock_change"], "{body}");
        }
    }

    #[test]
    fn held_units_keep_their_room() {
        let problem = change(r#"{"stock":101}"#).unwrap_err();
        assert_eq!(problem.fields().collect::<Vec<_>>(), ["stock"]);
        assert!(change(r#"{"stock":100}"#).unwrap().is_some());
    }

    #[test]
    fn another_version_is_a_conflict() {
        let problem = change(r#"{"stock":1,"version":2}"#).unwrap_err();
        assert_eq!(problem.kind(), Kind::VersionConflict);
    }
}
