//! Losses of flash sales.

use std::collections::BTreeSet;

use holdfast_bench::audit::{Log, Write};

use super::{Lose, last};

pub fn sales(log: &Log, lose: Lose) {
    let open: BTreeSet<&String> = log
        .unanswered
        .iter()
        .filter_map(|write| match write {
            Write::PutSale { name, .. } | Write::DeleteSale { name } => Some(name),
            _ => None,
        })
        .collect();
    let mut gone = BTreeSet::new();
    // From the last one on, so that deleted sales are found first.
    let (sale, product) = last_sale(log, &open, &mut gone);
    lose(
        "a sale",
        format!("DELETE FROM sales WHERE name = '{sale}'"),
        format!("sale `{sale}` is None"),
    );
    for change in [
        "per_customer = 1",
        "held_back = NOT held_back",
        "ends_at = ends_at + interval '1 s'",
        "starts_at = starts_at - interval '1 s'",
    ] {
        lose(
            "a field of a sale",
            format!("UPDATE sales SET {change} WHERE name = '{sale}'"),
            format!("sale `{sale}` is Some"),
        );
    }
    lose(
        "the product of a sale",
        format!("DELETE FROM sale_products WHERE product_id = {product}"),
        format!("sale `{sale}` is Some"),
    );
    lose(
        "a sale on its product",
        format!("UPDATE products SET sales = NULL WHERE id = {product}"),
        format!("products have a wrong number of sales: product {product}"),
    );
    let deleted = last(log, |it| match it {
        Write::DeleteSale { name } => Some(name.clone()),
        _ => None,
    });
    lose(
        "the removal of a sale",
        format!(
            "INSERT INTO sales (name, starts_at, ends_at, after_order) \
             VALUES ('{deleted}', '2020-01-01Z', '2036-01-01Z', 0)"
        ),
        format!("sale `{deleted}` is Some"),
    );
}

/// An existing sale, and its product.
fn last_sale<'a>(
    log: &'a Log,
    open: &BTreeSet<&String>,
    gone: &mut BTreeSet<&'a String>,
) -> (&'a String, i64) {
    for write in log.answered.iter().rev() {
        match write {
            Write::DeleteSale { name } => {
                gone.insert(name);
            }
            Write::PutSale { name, sale } if !gone.contains(name) && !open.contains(name) => {
                return (name, sale.products[0]);
            }
            _ => {}
        }
    }
    panic!("no sale exists");
}
