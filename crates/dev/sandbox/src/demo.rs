//! Something to buy: products in an empty shop.

use anyhow::{Context as _, bail};
use holdfast_sandbox::{http_get, http_post_json};
use serde_json::{Value, json};

/// Name, description, price, stock.
const PRODUCTS: [(&str, &str, f64, u32); 6] = [
    ("Enamel mug", "Holds 350 ml, survives every drop", 12.90, 500),
    ("Field notebook", "Dotted, 96 pages, stays open", 9.50, 1_000),
    ("Head torch", "400 lumens, charges over USB-C", 34.00, 120),
    ("Wool blanket", "Woven, 130 by 180 cm", 89.00, 40),
    ("Espresso beans", "One kilogram, roasted this week", 21.75, 300),
    ("Sneaker, limited run", "The one that everybody wants at noon", 149.00, 100),
];

/// Makes the demo products if there is no product yet. Returns how many were made, and the id of
/// the first product in the shop.
pub(crate) async fn fill(api: &str) -> anyhow::Result<(usize, i64)> {
    let (made, list) = match list(api).await? {
        found if !found.is_empty() => (0, found),
        _ => {
            for (name, description, price, stock) in PRODUCTS {
                let product = json!({"name": name, "description": description, "price": price, "stock": stock});
                let answer = http_post_json(&format!("{api}/products"), &product).await?;
                if !matches!(answer.status, 200 | 201) {
                    bail!("POST /products answered {}: {}", answer.status, answer.body);
                }
            }
            (PRODUCTS.len(), list(api).await?)
        }
    };
    let first = list.first().and_then(|product| product["id"].as_i64());
    Ok((made, first.context("GET /products shows no product")?))
}

async fn list(api: &str) -> anyhow::Result<Vec<Value>> {
    let answer = http_get(&format!("{api}/products?limit=1")).await?;
    if answer.status != 200 {
        bail!("GET /products answered {}: {}", answer.status, answer.body);
    }
    match answer.json()? {
        Value::Array(list) => Ok(list),
        other => bail!("GET /products answered {other}"),
    }
}
