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
    description: "Only the given fields change. While orders take stock, a new `stock` that was computed from an older value \
                  would overwrite the effect of these orders. There are two safe ways:\n\n\
                  - `stock_change` adds to the current stock while the product is locked, for example when goods arrive. \
                  (`POST /products/{id}/stock` does the same, with a reason, and can be repeated safely.)\n\
                  - `version` or the header `If-Match` makes the change conditional: if the product has changed (an order is \
                  a change, too), the answer is 409 or 412 with the current `version`, and nothing is changed.",
    answer: "The product in its current state",
    headers: &[ETAG],
    problems: &[&[ProblemKind::NotFound, ProblemKind::VersionConflict], WRITES],
};

/// Changes of a product. Absent fields stay as they are.
#[derive(Debug, Request)]
#[request(
    check = one_stock,
    example("A new price, and goods that arrived", { "price": 32.50, "stock_change": 10 })
)]
pub struct ProductPatch {
    /// The name: 1 to 200 characters.
    #[field(nullable = false, example = "Espresso machine")]
    name: Option<ProductName>,
    /// The description: up to 10,000 characters; null removes it.
    #[field(example = "Two groups, brass")]
    #[allow(clippy::option_option)] // left out, null or a text
    description: Option<Option<ProductDescription>>,
    /// The price of one unit, for new orders.
    #[field(nullable = false, example = 449.00)]
    price: Option<Money>,
    /// The new number of units for sale. Send `version` too, unless no orders are placed at the moment.
    #[field(nullable = false)]
    stock: Option<Stock>,
    /// The number of units to add, or to remove if negative. Not together with `stock`.
    #[field(nullable = false, example = 10)]
    stock_change: Option<i64>,
    /// Change the product only if it has this version.
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
    let id = id.0;
    let locked = conditions.lock(&app.store, id).await?;
    let Some(patch) = change.applied_to(locked.product(), locked.max_stock())? else {
        return Ok(answer(locked.product().clone()));
    };
    // Before the commit, so that no reader can put the old product into the cache afterwards. If this task is
    // cancelled, or the outcome of the commit is unknown, dropping `raised` tells the cache to ask the database.
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
    /// The patch for the locked `product`, whose stock may be at most `max_stock`; `None` if nothing changes.
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
    fn an_empty_change_changes_nothing() {
        assert_eq!(change("{}").unwrap(), None);
        assert_eq!(change(r#"{"id":9,"colour":"red","version":3}"#).unwrap(), None);
    }

    #[test]
    fn null_removes_only_a_description() {
        let patch = change(r#"{"description":null}"#).unwrap().unwrap();
        assert_eq!(patch.description, Some(None));
        let problem =
            change(r#"{"name":null,"price":null,"stock":null,"version":null}"#).unwrap_err();
        let mut fields: Vec<_> = problem.fields().collect();
        fields.sort_unstable();
        assert_eq!(fields, ["name", "price", "stock", "version"]);
    }

    #[test]
    fn a_relative_change_starts_from_the_locked_stock() {
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
    fn held_units_count_towards_the_stock_limit() {
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
