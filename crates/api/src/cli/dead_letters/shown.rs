//! Tables of dead letters.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{
    of_endpoint,
    output::{OutputRow, Text, table},
};

pub(super) const COLUMNS: [&str; 6] =
    ["ORDER", "PRODUCTS", "CUSTOMER", "ATTEMPTS", "FAILED", "FAILURE"];
const STEP_COLUMNS: [&str; 4] = ["AT", "STATUS", "BY", "DETAIL"];

/// The fields of an order that are used.
#[derive(Deserialize)]
struct ShownOrder {
    id: i64,
    status: String,
    items: Vec<ShownItem>,
    customer_ref: Option<String>,
    attempts: i32,
    created_at: String,
    finished_at: Option<String>,
    failure: Option<String>,
    #[serde(default)]
    history: Vec<ShownStep>,
}

#[derive(Deserialize)]
struct ShownItem {
    product_id: i64,
    quantity: i32,
}

#[derive(Deserialize)]
struct ShownStep {
    at: String,
    status: String,
    by: Option<String>,
    detail: Option<String>,
}

impl ShownOrder {
    fn products(&self) -> String {
        let item = |item: &ShownItem| format!("{} × #{}", item.quantity, item.product_id);
        self.items.iter().map(item).collect::<Vec<_>>().join(", ")
    }
}

/// A row of the list.
pub(super) fn row(written: &str) -> anyhow::Result<OutputRow> {
    let order: ShownOrder = of_endpoint(written)?;
    Ok(OutputRow {
        name: order.id.to_string(),
        cells: vec![
            order.id.to_string().into(),
            order.products().into(),
            order.customer_ref.into(),
            order.attempts.to_string().into(),
            seconds(order.finished_at.as_deref().unwrap_or_default()).into(),
            Text::bad(order.failure.unwrap_or_default()),
        ],
        json: RawValue::from_string(written.to_owned())?,
    })
}

/// A dead letter with its history.
pub(super) fn order(written: &RawValue) -> anyhow::Result<String> {
    let order: ShownOrder = of_endpoint(written.get())?;
    let fact =
        |name: &str, value: Text| OutputRow::new("", vec![name.to_owned().into(), value], &());
    let facts = [
        fact("Order", order.id.to_string().into())?,
        fact("Status", Text::bad(order.status.clone()))?,
        fact("Products", order.products().into())?,
        fact("Customer", order.customer_ref.into())?,
        fact("Accepted", seconds(&order.created_at).into())?,
        fact("Attempts", order.attempts.to_string().into())?,
        fact("Failure", order.failure.into())?,
    ];
    let steps: anyhow::Result<Vec<OutputRow>> = order
        .history
        .into_iter()
        .map(|step| {
            let cells = vec![
                seconds(&step.at).into(),
                step.status.into(),
                step.by.into(),
                step.detail.into(),
            ];
            OutputRow::new("", cells, &())
        })
        .collect();
    Ok(format!("{}\n\n{}", table(None, &facts), table(Some(&STEP_COLUMNS), &steps?)))
}

/// A time without the fraction of a second.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}
