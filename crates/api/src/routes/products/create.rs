//! `POST /products`

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use holdfast_domain::NewProduct;
use utoipa::ToSchema;

use crate::{
    app::App,
    body::{Fields, JsonText, encode, receive, value},
    etag::Tag,
    problem::{Problem, ProblemSchema},
    products::ProductBody,
};

/// A product to be created.
#[derive(ToSchema)]
#[schema(as = NewProduct)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct NewProductSchema {
    /// 1 to 200 characters.
    #[schema(example = "Espresso machine", min_length = 1, max_length = 200)]
    name: String,
    /// Up to 10,000 characters.
    #[schema(example = "Two groups, brass", max_length = 10_000)]
    description: Option<String>,
    /// What one unit costs, with at most two decimals; a text such as `"499.90"` is taken too.
    #[schema(example = 499.90, minimum = 0, maximum = 99_999_999.99)]
    price: f64,
    /// Units to be sold.
    #[schema(example = 25, minimum = 0, maximum = 1_000_000_000)]
    stock: i64,
}

/// Put a product into the shop
#[utoipa::path(
    post, path = "/products", tag = "products", operation_id = "create_product",
    request_body(content = NewProductSchema),
    responses(
        (status = 201, description = "The product, as it was created", body = ProductBody,
            headers(
                ("Location" = String, description = "Its path"),
                ("ETag" = String, description = "Names the product as it is now"),
            )),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let new = read(&receive(&headers, body, app.body).await?)?;
    let product = ProductBody::from(app.store.create_product(&new).await?);
    let location = HeaderValue::from_str(&format!("/products/{}", product.id));
    let mut response = encode(&product).into_response();
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ETAG, Tag::of(&product).header());
    headers.insert(header::LOCATION, location.map_err(Problem::internal)?);
    Ok(response)
}

/// Reads a new product.
pub fn read(body: &Bytes) -> Result<NewProduct, Problem> {
    let text = JsonText::check(body)?;
    let mut fields = Fields::read(&text, ["name", "description", "price", "stock"])?;
    let name = fields.required("name", value::name);
    let description = fields.nullable("description", value::description).flatten();
    let price = fields.required("price", value::price);
    let stock = fields.required("stock", value::stock);
    fields.finish()?;
    match (name, price, stock) {
        (Some(name), Some(price), Some(stock)) => {
            Ok(NewProduct { name, description, price, stock })
        }
        // `finish` has named what is missing.
        _ => Err(Problem::body("must have name, price and stock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(body: &'static str) -> Vec<String> {
        let problem = read(&Bytes::from_static(body.as_bytes())).unwrap_err();
        problem.fields().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_description_may_be_null_or_left_out() {
        for body in [
            r#"{"name":"x","price":1,"stock":1}"#,
            r#"{"name":"x","price":"1.00","stock":1,"description":null,"colour":"red"}"#,
        ] {
            let new = read(&Bytes::from_static(body.as_bytes())).unwrap();
            assert_eq!((new.description, new.price.minor()), (None, 100));
        }
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        assert_eq!(wrong("{}"), ["name", "price", "stock"]);
        assert_eq!(
            wrong(r#"{"name":"","description":7,"price":1.234,"stock":-1}"#),
            ["name", "description", "price", "stock"]
        );
        assert_eq!(wrong(r#"{"name":"","price":NaN,"stock":null}"#), ["name", "price", "stock"]);
    }
}
