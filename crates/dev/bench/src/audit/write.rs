//! A write request of a client, with the data that is needed to find it in the database.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::load::http_request;

/// A write request of a client.
///
/// The value with which a client identifies its write (the name of a product, a key or a sale, the note of an adjustment,
/// the customer of an order or hold, the operator of a replay) is unique for each kind of write, except for repetitions of
/// the same request. Values that only the answer contains are `None` without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "write", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Write {
    CreateProduct {
        name: String,
        price_minor: i64,
        stock: i64,
        id: Option<i64>,
    },
    UpdateProduct {
        id: i64,
        name: String,
        price_minor: i64,
        stock_change: i64,
        version: Option<i64>,
    },
    DeleteProduct {
        id: i64,
    },
    AdjustStock {
        id: i64,
        delta: i64,
        note: String,
        key: Option<String>,
        version: Option<i64>,
    },
    PlaceOrder {
        customer: String,
        lines: Vec<LoggedLine>,
        key: Option<String>,
        id: Option<i64>,
    },
    CancelOrder {
        id: i64,
    },
    CreateHold {
        customer: String,
        product_id: i64,
        quantity: i32,
        seconds: u32,
        key: Option<String>,
        id: Option<i64>,
    },
    ReleaseHold {
        id: i64,
    },
    CreateApiKey {
        name: String,
        scopes: Vec<String>,
        id: Option<String>,
    },
    RevokeApiKey {
        id: String,
    },
    PutSale {
        name: String,
        sale: LoggedSale,
    },
    DeleteSale {
        name: String,
    },
    ReplayDeadLetter {
        id: i64,
        by: String,
    },
    /// The replayed orders if it was answered, otherwise the requested ones.
    ReplayDeadLetters {
        ids: Vec<i64>,
        by: String,
    },
    DiscardDeadLetter {
        id: i64,
        by: String,
    },
}

/// A line of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LoggedLine {
    pub product_id: i64,
    /// The number of units.
    pub quantity: i32,
    pub hold_id: Option<i64>,
}

/// The settings of a sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedSale {
    /// The ids of the products, ascending.
    pub products: Vec<i64>,
    /// The start, such as `2026-01-31T12:00:00Z`.
    pub starts_at: String,
    pub ends_at: String,
    /// The most units for one customer.
    pub per_customer: Option<i32>,
    /// Whether it stays closed.
    pub held_back: bool,
}

impl Write {
    /// Each route that writes, as in the API's document.
    pub const ROUTES: [&str; 15] = [
        "POST /products",
        "PUT /products/{id}",
        "DELETE /products/{id}",
        "POST /products/{id}/stock",
        "POST /orders",
        "POST /orders/{id}/cancel",
        "POST /holds",
        "DELETE /holds/{id}",
        "POST /api-keys",
        "DELETE /api-keys/{id}",
        "PUT /sales/{name}",
        "DELETE /sales/{name}",
        "POST /dead-letters/{id}/replay",
        "POST /dead-letters/replay",
        "POST /dead-letters/{id}/discard",
    ];

    /// Its index in [`Self::ROUTES`].
    fn place(&self) -> usize {
        match self {
            Self::CreateProduct { .. } => 0,
            Self::UpdateProduct { .. } => 1,
            Self::DeleteProduct { .. } => 2,
            Self::AdjustStock { .. } => 3,
            Self::PlaceOrder { .. } => 4,
            Self::CancelOrder { .. } => 5,
            Self::CreateHold { .. } => 6,
            Self::ReleaseHold { .. } => 7,
            Self::CreateApiKey { .. } => 8,
            Self::RevokeApiKey { .. } => 9,
            Self::PutSale { .. } => 10,
            Self::DeleteSale { .. } => 11,
            Self::ReplayDeadLetter { .. } => 12,
            Self::ReplayDeadLetters { .. } => 13,
            Self::DiscardDeadLetter { .. } => 14,
        }
    }

    /// Its route, as in the API's document.
    pub fn route(&self) -> &'static str {
        Self::ROUTES.get(self.place()).copied().unwrap_or_default()
    }

    /// The value that identifies it.
    pub fn mark(&self) -> Option<&str> {
        match self {
            Self::CreateProduct { name: mark, .. }
            | Self::UpdateProduct { name: mark, .. }
            | Self::AdjustStock { note: mark, .. }
            | Self::PlaceOrder { customer: mark, .. }
            | Self::CreateHold { customer: mark, .. }
            | Self::CreateApiKey { name: mark, .. }
            | Self::PutSale { name: mark, .. }
            | Self::ReplayDeadLetter { by: mark, .. }
            | Self::ReplayDeadLetters { by: mark, .. }
            | Self::DiscardDeadLetter { by: mark, .. } => Some(mark),
            _ => None,
        }
    }

    /// Whether it is sent to the admin port.
    pub fn is_administrative(&self) -> bool {
        let (_, path) = self.route().split_once(' ').unwrap_or_default();
        ["/api-keys", "/sales", "/dead-letters"].iter().any(|prefix| path.starts_with(prefix))
    }

    pub fn request(&self) -> Vec<u8> {
        let (method, path) = self.route().split_once(' ').unwrap_or_default();
        let path = path.replace("{id}", &self.id_in_path()).replace("{name}", &self.id_in_path());
        let body = self.body().map(|body| body.to_string());
        http_request(method, &path, self.key(), body.as_deref())
    }

    fn id_in_path(&self) -> String {
        match self {
            Self::UpdateProduct { id, .. }
            | Self::DeleteProduct { id }
            | Self::AdjustStock { id, .. }
            | Self::CancelOrder { id }
            | Self::ReleaseHold { id }
            | Self::ReplayDeadLetter { id, .. }
            | Self::DiscardDeadLetter { id, .. } => id.to_string(),
            Self::RevokeApiKey { id } => id.clone(),
            Self::PutSale { name, .. } | Self::DeleteSale { name } => name.clone(),
            _ => String::new(),
        }
    }

    /// Its `Idempotency-Key`.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::AdjustStock { key, .. }
            | Self::PlaceOrder { key, .. }
            | Self::CreateHold { key, .. } => key.as_deref(),
            _ => None,
        }
    }

    fn body(&self) -> Option<Value> {
        let price = |minor: i64| format!("{}.{:02}", minor / 100, minor % 100);
        Some(match self {
            Self::CreateProduct { name, price_minor, stock, .. } => {
                json!({ "name": name, "price": price(*price_minor), "stock": stock })
            }
            Self::UpdateProduct { name, price_minor, stock_change: 0, .. } => {
                json!({ "name": name, "price": price(*price_minor) })
            }
            Self::UpdateProduct { name, price_minor, stock_change, .. } => {
                json!({ "name": name, "price": price(*price_minor), "stock_change": stock_change })
            }
            Self::AdjustStock { delta, note, .. } => json!({ "delta": delta, "reason": note }),
            Self::PlaceOrder { customer, lines, .. } => {
                json!({ "customer_ref": customer, "items": lines.iter().map(LoggedLine::body).collect::<Vec<_>>() })
            }
            Self::CreateHold { customer, product_id, quantity, seconds, .. } => json!({
                "customer_ref": customer, "product_id": product_id, "quantity": quantity, "seconds": seconds
            }),
            Self::CreateApiKey { name, scopes, .. } => json!({ "name": name, "scopes": scopes }),
            Self::PutSale { sale, .. } => {
                let mut body = json!(sale);
                // Left out if there is no limit.
                if let (None, Some(body)) = (sale.per_customer, body.as_object_mut()) {
                    body.remove("per_customer");
                }
                body
            }
            Self::ReplayDeadLetter { by, .. } | Self::DiscardDeadLetter { by, .. } => {
                json!({ "by": by })
            }
            Self::ReplayDeadLetters { ids, by } => json!({ "by": by, "ids": ids }),
            _ => return None,
        })
    }

    /// The write with the data of its answer; `None` if the answer is wrong.
    pub fn told(mut self, answer: &Value) -> Option<Self> {
        match &mut self {
            Self::CreateProduct { id: told, .. }
            | Self::PlaceOrder { id: told, .. }
            | Self::CreateHold { id: told, .. } => *told = Some(answer["id"].as_i64()?),
            Self::UpdateProduct { version: told, .. } | Self::AdjustStock { version: told, .. } => {
                *told = Some(answer["version"].as_i64()?);
            }
            Self::CreateApiKey { id: told, .. } => *told = Some(answer["id"].as_str()?.to_owned()),
            Self::ReplayDeadLetters { ids, .. } => {
                let replayed = answer["replayed"].as_array()?;
                *ids = replayed.iter().map(Value::as_i64).collect::<Option<_>>()?;
            }
            _ => {}
        }
        Some(self)
    }
}

impl LoggedLine {
    fn body(&self) -> Value {
        let Self { product_id, quantity, hold_id } = self;
        match hold_id {
            None => json!({ "product_id": product_id, "quantity": quantity }),
            Some(hold) => {
                json!({ "product_id": product_id, "quantity": quantity, "hold_id": hold })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_matches_its_write() {
        let line = LoggedLine { product_id: 3, quantity: 2, hold_id: Some(4) };
        let (customer, key) = ("c-1".to_owned(), Some("k-1".to_owned()));
        let write = Write::PlaceOrder { customer, lines: vec![line], key, id: None };
        let request = String::from_utf8(write.request()).unwrap();
        assert!(request.starts_with("POST /orders HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("idempotency-key: k-1\r\n"), "{request}");
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let expected = json!({
            "customer_ref": "c-1", "items": [{"product_id": 3, "quantity": 2, "hold_id": 4}]
        });
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);

        let write = Write::DeleteSale { name: "s-1".into() };
        assert!(write.request().starts_with(b"DELETE /sales/s-1 HTTP/1.1\r\n"));
        assert!(write.is_administrative());
    }

    #[test]
    fn an_answer_without_its_id_is_wrong() {
        let write = Write::CreateProduct { name: "x".into(), price_minor: 1, stock: 2, id: None };
        assert_eq!(write.clone().told(&json!({"name": "x"})), None);
        let told = write.told(&json!({"id": 7})).unwrap();
        assert!(matches!(told, Write::CreateProduct { id: Some(7), .. }));
    }
}
