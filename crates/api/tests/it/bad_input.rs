//! Invalid input is refused completely: each wrong field is named, and nothing changes.

use reqwest::Method;

use crate::server::Server;

/// Values that are not whole numbers, as JSON, with the expected error.
const NO_WHOLE_NUMBERS: [&str; 10] = [
    "1.5",
    "\"1\"",
    "9223372036854775808",
    "null",
    "NaN",
    "-Infinity",
    "1e400",
    "true",
    "[1]",
    "{}",
];

/// The body of `fields` with one of them replaced.
fn body(fields: &[(&str, &str)], replaced: &str, value: &str) -> String {
    let fields = fields
        .iter()
        .map(|(name, good)| format!("\"{name}\":{}", if *name == replaced { value } else { good }));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// Each field of a product with the values that must be refused.
fn bad_product_fields() -> Vec<(&'static str, Vec<String>)> {
    let owned =
        |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let long_name = format!("\"{}\"", "n".repeat(201));
    let long_text = format!("\"{}\"", "d".repeat(10_001));
    let mut stocks = owned(&NO_WHOLE_NUMBERS);
    stocks.extend(owned(&["-1", "1000000001"]));
    let mut names = owned(&["\"\"", "\"  \"", "\"a\\u0000b\"", "\"\\ud800\"", "7", "null", "[]"]);
    names.push(long_name);
    let mut descriptions = owned(&["7", "\"a\\u0000b\"", "{}"]);
    descriptions.push(long_text);
    let prices = owned(&[
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1",
        "-0.01",
        "1.234",
        "\"1.234\"",
        "\"NaN\"",
        "\"\"",
        "\"1,5\"",
        "100000000",
        "true",
        "null",
        "[1]",
    ]);
    vec![("name", names), ("description", descriptions), ("price", prices), ("stock", stocks)]
}

#[tokio::test]
async fn a_wrong_field_is_named_on_every_route() {
    let server = Server::start().await;
    let product = server.product(10).await;
    server.order(product, 1).await;
    let before = server.contents().await;
    let good = [("name", "\"x\""), ("description", "\"d\""), ("price", "1.25"), ("stock", "3")];

    let mut cases = Vec::new();
    for (field, values) in bad_product_fields() {
        for value in values {
            let body = body(&good, field, &value);
            cases.push((Method::POST, "/products".to_owned(), body.clone(), field));
            cases.push((Method::PUT, format!("/products/{product}"), body, field));
        }
    }
    for value in NO_WHOLE_NUMBERS {
        for field in ["stock", "stock_change", "version"] {
            let body = body(&[(field, "1")], field, value);
            cases.push((Method::PUT, format!("/products/{product}"), body, field));
        }
    }
    let id = product.to_string();
    let order = [("product_id", id.as_str()), ("quantity", "1")];
    for field in ["product_id", "quantity"] {
        for value in NO_WHOLE_NUMBERS {
            cases.push((Method::POST, "/orders".to_owned(), body(&order, field, value), field));
        }
    }
    for value in ["0", "-5", "1001", "2147483648", "-9223372036854775808"] {
        cases.push((
            Method::POST,
            "/orders".to_owned(),
            body(&order, "quantity", value),
            "quantity",
        ));
    }
    for (method, path, body, field) in cases {
        let answer = server.api.json(method.clone(), &path, body.clone()).await;
        assert_eq!(answer.status, 422, "{method} {path} {body}: {}", answer.text);
        assert_eq!(answer.wrong_fields(), [field], "{method} {path} {body}");
        assert_eq!(answer.problem()["type"], "/problems/validation");
    }
    assert_eq!(server.contents().await, before, "something changed");
}

#[tokio::test]
async fn all_wrong_fields_are_named_in_one_answer() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let before = server.contents().await;
    let product_path = format!("/products/{product}");
    for (method, path, body, expected) in [
        (
            Method::POST,
            "/orders",
            r#"{"product_id":"x","quantity":0}"#,
            &["product_id", "quantity"][..],
        ),
        (
            Method::POST,
            "/orders",
            r#"{"product_id":NaN,"quantity":-5}"#,
            &["product_id", "quantity"],
        ),
        (Method::POST, "/orders", "{}", &["product_id", "quantity"]),
        (
            Method::POST,
            "/products",
            r#"{"name":"","description":7,"price":NaN,"stock":1.5}"#,
            &["description", "name", "price", "stock"],
        ),
        (Method::POST, "/products", "{}", &["name", "price", "stock"]),
        (
            Method::PUT,
            &product_path,
            r#"{"name":null,"price":null,"stock":null}"#,
            &["name", "price", "stock"],
        ),
        (Method::PUT, &product_path, r#"{"stock":1,"stock":2}"#, &["stock"]),
        (Method::PUT, &product_path, r#"{"stock":1,"stock_change":2}"#, &["stock_change"]),
        (Method::PUT, &product_path, r#"{"stock_change":-11}"#, &["stock_change"]),
    ] {
        let answer = server.api.json(method, path, body).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text);
        assert_eq!(answer.wrong_fields(), expected, "{body}");
    }
    assert_eq!(server.contents().await, before, "something changed");
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_refused() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let before = server.contents().await;
    let nested = |open: &str, close: &str| {
        format!("{{\"x\":{}{}}}", open.repeat(10_000), close.repeat(10_000))
    };
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "null",
        "[]",
        "7",
        "\"x\"",
        "hello",
        "{",
        "{]",
        "{\"quantity\":}",
        "{\"quantity\" 1}",
        "{\"product_id\":1,\"quantity\":1}{}",
        "{\"product_id\":1,\"quantity\":1,}",
        "{'quantity':1}",
        "\u{feff}{}",
        "{\"x\":NaN}",
        "{\"x\":01}",
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .collect();
    bodies.push(nested("[", "]").into_bytes());
    bodies.push(nested("{\"y\":", "}").replace("{}", "{1}").into_bytes());
    bodies.push("[".repeat(10_000).into_bytes());
    bodies.push(b"{\"name\":\"\xff\xfe\"}".to_vec());
    bodies.push(vec![0; 100]);
    for body in bodies {
        for (method, path) in [
            (Method::POST, "/orders".to_owned()),
            (Method::POST, "/products".to_owned()),
            (Method::PUT, format!("/products/{product}")),
        ] {
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            let answer = server.api.json(method, &path, body.clone()).await;
            assert_eq!(answer.status, 422, "{path} {shown}: {}", answer.text);
            assert!(!answer.wrong_fields().is_empty(), "{path} {shown}");
        }
    }
    assert_eq!(server.contents().await, before, "something changed");
}

#[tokio::test]
async fn wrong_ids_and_queries_are_named() {
    let server = Server::start().await;
    for id in ["x", "1.5", "9223372036854775808", "1e3", "%31", "NaN", "1%00", "%20"] {
        for path in [format!("/products/{id}"), format!("/orders/{id}")] {
            let answer = server.api.get(&path).await;
            assert_eq!(answer.status, 422, "{path}: {}", answer.text);
            assert_eq!(answer.wrong_fields(), ["id"], "{path}");
        }
        assert_eq!(server.api.delete(&format!("/products/{id}")).await.status, 422);
    }
    for (path, expected) in [
        ("/products?limit=0", &["limit"][..]),
        ("/products?limit=1001&skip=-1&in_stock=x&name=", &["in_stock", "limit", "name", "skip"]),
        ("/products?skip=100001", &["skip"]),
        ("/products?skip=1&in_stock=true", &["skip"]),
        ("/products?limit=1&limit=2", &["limit"]),
        ("/products?limit=", &["limit"]),
        (
            "/orders?limit=NaN&customer_ref=%00&product_id=1.5&status=PENDING",
            &["customer_ref", "limit", "product_id", "status"],
        ),
        ("/orders/?status=", &["status"]),
    ] {
        let answer = server.api.get(path).await;
        assert_eq!(answer.status, 422, "{path}: {}", answer.text);
        assert_eq!(answer.wrong_fields(), expected, "{path}");
    }
}
