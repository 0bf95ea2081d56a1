//! `PUT /products/{id}`

use axum::{
    extract::State,
    http::{Method, header},
};
use holdfast_domain::{
    LedgerReason, Money, Product, ProductChanges, ProductDescription, ProductId, ProductName,
    Stock, StockEdit,
};

use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, ETAG, Endpoint, JsonOk, Tag, WRITES},
    etag::{IfMatch, ProductTag},
    problem::{FieldError, Problem, ProblemKind},
    products::ProductBody,
    request::{Fields, Id, JsonBody, Request, Version},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::PUT,
    path: "/products/{id}",
    path_example: "3",
    access: Access::Shop(Scope::ProductsWrite),
    tag: Tag::Products,
    operation_id: "update_product",
    summary: "Update a product",
    description: "Only the fields that are given change. While orders take stock, a new `stock` that was worked out from an \
                  older one would give back what they have taken. Two ways lose nothing:\n\n\
                  - `stock_change` adds to what is there, while the product is locked: for goods that come in. (`POST \
                  /products/{id}/stock` does the same, with a reason and safe to be sent again.)\n\
                  - `version` or the header `If-Match` make the change conditional: if anything has changed since (a sale \
                  included), the answer is 409 or 412 with the product's `version` now, and nothing happens.",
    answer: "The product, as it is now",
    headers: &[ETAG],
    problems: &[&[ProblemKind::NotFound, ProblemKind::VersionConflict], WRITES],
};

/// What to change of a product. What is left out stays.
#[derive(Debug, Request)]
#[request(
    check = one_stock,
    example("Another price, and goods that came in", { "price": 32.50, "stock_change": 10 })
)]
pub struct ProductPatch {
    /// 1 to 200 characters.
    #[field(nullable = false, example = "Espresso machine")]
    name: Option<ProductName>,
    /// Up to 10,000 characters; null takes it away.
    #[field(example = "Two groups, brass")]
    #[allow(clippy::option_option)] // left out, null or a text
    description: Option<Option<ProductDescription>>,
    /// What one unit costs, for orders from now on.
    #[field(nullable = false, example = 449.00)]
    price: Option<Money>,
    /// Units to be sold, in place of what is there. Combine it with `version` unless nothing is
    /// sold at the moment.
    #[field(nullable = false)]
    stock: Option<Stock>,
    /// Units to be added to what is there, or taken from it if negative. Not together with
    /// `stock`.
    #[field(nullable = false, example = 10)]
    stock_change: Option<i64>,
    /// Change only if the product still is at this version.
    #[field(nullable = false)]
    version: Option<Version>,
}

fn one_stock(fields: &mut Fields<'_>) {
    if fields.has("stock") {
        fields.refuse("stock_change", "must not be given together with stock");
    }
}

pub(super) async fn update(
    State(app): State<App>,
    id: Id<ProductId>,
    conditions: IfMatch,
    JsonBody(change): JsonBody<ProductPatch>,
) -> Result<JsonOk<ProductBody>, Problem> {
    let conditions = conditions.read()?;
    let id = id.0;
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

fn answer(product: Product) -> JsonOk<ProductBody> {
    let product = ProductBody::from(product);
    JsonOk::new(&product).with(header::ETAG, ProductTag::of(&product).header())
}

impl ProductPatch {
    /// The patch for the locked `product`, whose stock may be `max_stock` at most; `None` if
    /// nothing is to change.
    fn applied_to(
        self,
        product: &Product,
        max_stock: i64,
    ) -> Result<Option<ProductChanges>, Problem> {
        let Self { name, description, price, stock, stock_change, version } = self;
        if version.is_some_and(|Version(expected)| expected != product.version) {
            return Err(Problem::version_conflict(product.id.0, product.version));
        }
        let mut patch =
            ProductChanges { name, description, price, stock: stock.map(StockEdit::set) };
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
        if let Some(delta) = stock_change {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::read;

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

    fn change(body: &str) -> Result<Option<ProductChanges>, Problem> {
        read::<ProductPatch>(body)?.applied_to(&product(), 100)
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
        assert_eq!(problem.kind(), ProblemKind::VersionConflict);
    }
}
