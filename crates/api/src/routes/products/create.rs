//! `POST /products`

use axum::{
    extract::State,
    http::{HeaderValue, Method, header},
};
use holdfast_domain::{Money, ProductDescription, ProductDraft, ProductName, Stock};

use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Created, ETAG, Endpoint, LOCATION, Tag, WRITES},
    etag::ProductTag,
    problem::Problem,
    products::ProductBody,
    request::{JsonBody, Request},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/products",
    path_example: "",
    access: Access::Shop(Scope::ProductsWrite),
    tag: Tag::Products,
    operation_id: "create_product",
    summary: "Create a product",
    description: "The product can be ordered immediately. Its stock ledger begins with its `stock`.",
    answer: "The new product",
    headers: &[LOCATION, ETAG],
    problems: &[WRITES],
};

/// A new product.
#[derive(Debug, Request)]
pub struct NewProduct {
    /// The name: 1 to 200 characters.
    #[field(example = "Espresso machine")]
    name: ProductName,
    /// The description: up to 10,000 characters.
    #[field(example = "Two groups, brass")]
    description: Option<ProductDescription>,
    /// The price of one unit, with at most two decimals; a string such as `"499.90"` is accepted too.
    #[field(example = 499.90)]
    price: Money,
    /// The number of units for sale.
    #[field(example = 25)]
    stock: Stock,
}

pub(super) async fn create(
    State(app): State<App>,
    JsonBody(new): JsonBody<NewProduct>,
) -> Result<Created<ProductBody>, Problem> {
    let NewProduct { name, description, price, stock } = new;
    let new = ProductDraft { name, description, price, stock };
    let product = ProductBody::from(app.store.create_product(&new).await?);
    let location = HeaderValue::from_str(&format!("/products/{}", product.id));
    Ok(Created::new(&product)
        .with(header::ETAG, ProductTag::of(&product).header())
        .with(header::LOCATION, location.map_err(Problem::internal)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{read, wrong};

    #[test]
    fn a_description_may_be_null_or_left_out() {
        for body in [
            r#"{"name":"x","price":1,"stock":1}"#,
            r#"{"name":"x","price":"1.00","stock":1,"description":null,"colour":"red"}"#,
        ] {
            let new: NewProduct = read(body).unwrap();
            assert_eq!((new.description, new.price.minor()), (None, 100));
        }
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        assert_eq!(wrong::<NewProduct>("{}"), ["name", "price", "stock"]);
        assert_eq!(
            wrong::<NewProduct>(r#"{"name":"","description":7,"price":1.234,"stock":-1}"#),
            ["name", "description", "price", "stock"]
        );
        assert_eq!(
            wrong::<NewProduct>(r#"{"name":"","price":NaN,"stock":null}"#),
            ["name", "price", "stock"]
        );
    }
}
