//! `POST /products/{id}/stock`

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use holdfast_cache::StockChange;
use holdfast_domain::{Invalid, LedgerEntry, MAX_STOCK, ProductId, StockEdit, StockNote};
use holdfast_store::{IdempotencyKey, ResultKind, StoreError};
use utoipa::ToSchema;

use crate::{
    access::Caller,
    app::App,
    body::{Fields, JsonText, receive, value},
    idempotency,
    problem::{FieldError, Kind, Problem, ProblemSchema},
    routes::extract::ParentId,
    stock_ledger::LedgerBody,
};

/// How often a key that another request has just taken is looked up again.
const TRIES: usize = 3;

/// A relative change of a product's stock.
#[derive(ToSchema)]
#[schema(as = StockAdjustment)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct StockAdjustmentSchema {
    /// Units to be added to what is there, or taken from it if negative; not 0.
    #[schema(example = -2, minimum = -1_000_000_000, maximum = 1_000_000_000)]
    delta: i64,
    /// Why: 1 to 500 characters, kept in the stock ledger.
    #[schema(example = "broken in transit", min_length = 1, max_length = 500)]
    reason: String,
}

/// Change a product's stock by so many units
///
/// Adds to whatever is there, in turn with the orders, so that no order and no other change is lost.
/// The answer is the entry in the product's stock ledger.
///
/// With an `Idempotency-Key`, the same request can be sent again without fear: it is answered with
/// the same entry, and the units are counted once. Without one, look into the stock ledger before
/// trying again.
#[utoipa::path(
    post, path = "/products/{id}/stock", tag = "products", operation_id = "adjust_stock",
    params(
        ("id" = i64, Path, description = "The product's id"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "Makes it safe to send the same request again: 1 to 255 visible ASCII characters"),
    ),
    request_body(content = StockAdjustmentSchema),
    responses(
        (status = 201, description = "The entry in the stock ledger", body = LedgerBody,
            headers(("Idempotency-Replayed" = String, description = "`true` if an earlier request with the same key made it"))),
        (status = 404, description = "There is no such product, or it is no longer sold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "The stock would be below zero, or more than the shop can hold; what is allowed is said",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong (all of them are named), or the key came before with another request",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn adjust(
    State(app): State<App>,
    caller: Caller,
    ParentId(id): ParentId,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let adjustment = read(&receive(&headers, body, app.body).await?, &headers)?;
    if id < 1 {
        return Err(Problem::unknown_product(id));
    }
    let key = adjustment.key(id, caller.key_space());
    for _ in 0..TRIES {
        if let Some(key) = &key
            && let Some(entry) = earlier(&app, id, key).await?
        {
            let mut response = created(entry);
            response.headers_mut().insert(idempotency::REPEATED, HeaderValue::from_static("true"));
            return Ok(response);
        }
        if let Some(entry) = change(&app, id, &adjustment, key.as_ref()).await? {
            return Ok(created(entry));
        }
        // Another request has taken the key since we looked: now we shall see what it did.
    }
    Err(Problem::new(Kind::Overloaded))
}

/// What the key has led to, if anything.
async fn earlier(app: &App, id: i64, key: &IdempotencyKey) -> Result<Option<LedgerEntry>, Problem> {
    let Some(result) = app.store.keyed(key).await? else { return Ok(None) };
    if result.kind != ResultKind::Adjustment || !key.led_to(&result) {
        return Err(Problem::new(Kind::KeyReused));
    }
    // A key's row is written with its entry, and nobody takes entries away.
    let entry = app.store.stock_change(ProductId(id), result.id).await?;
    entry.map(Some).ok_or_else(|| Problem::new(Kind::Internal))
}

/// Changes the stock under the product's lock. `None` if somebody else has taken the key meanwhile.
async fn change(
    app: &App,
    id: i64,
    adjustment: &Adjustment<'_>,
    key: Option<&IdempotencyKey>,
) -> Result<Option<LedgerEntry>, Problem> {
    let locked = app.store.lock_product(ProductId(id)).await?;
    let locked = locked.ok_or_else(|| Problem::unknown_product(id))?;
    let (delta, left) = (adjustment.delta, locked.product().stock.units());
    let edit = locked
        .stock_with(delta)
        .ok_or_else(|| Problem::stock_out_of_range(id, delta, left, locked.max_stock()))?;
    let edit = StockEdit { note: Some(adjustment.note.clone()), ..edit };
    // As in any update: fenced before the commit, told after it. Only the stock changes, so what is
    // cached need not be read again.
    let (previous_version, version) = (locked.product().version, locked.next_version());
    let raised = app.cache.raise(&[(id, version)]).await;
    match locked.adjust(&edit, key).await {
        Ok(entry) => {
            let stock = entry.stock_after.units();
            raised.committed(&[StockChange { id, previous_version, version, stock }]);
            Ok(Some(entry))
        }
        Err(StoreError::KeyTaken) => {
            raised.aborted();
            Ok(None)
        }
        // Dropping `raised` tells the cache to ask the database.
        Err(error) => Err(error.into()),
    }
}

fn created(entry: LedgerEntry) -> Response {
    (StatusCode::CREATED, Json(LedgerBody::from(entry))).into_response()
}

/// What a request asks for.
#[derive(Debug)]
pub struct Adjustment<'h> {
    delta: i64,
    note: StockNote,
    key: Option<&'h str>,
}

impl Adjustment<'_> {
    fn key(&self, product_id: i64, space: &str) -> Option<IdempotencyKey> {
        let request = format!("adjustment;{product_id},{};{}", self.delta, self.note.as_str());
        self.key.map(|key| IdempotencyKey::new(space, key, request.as_bytes()))
    }
}

/// Reads a change of a stock.
pub fn read<'h>(body: &Bytes, headers: &'h HeaderMap) -> Result<Adjustment<'h>, Problem> {
    let text = JsonText::check(body)?;
    let mut fields = Fields::read(&text, ["delta", "reason"])?;
    let delta = fields.required("delta", |raw| value::integer(raw).and_then(in_range));
    let note = fields.required("reason", |raw| value::text(raw).and_then(StockNote::new));
    let key = idempotency::key(headers).unwrap_or_else(|FieldError { field, detail }| {
        fields.wrong(field, detail);
        None
    });
    fields.finish()?;
    match (delta, note) {
        (Some(delta), Some(note)) => Ok(Adjustment { delta, note, key }),
        // `finish` has named what is missing.
        _ => Err(Problem::body("must have delta and reason")),
    }
}

fn in_range(delta: i64) -> Result<i64, Invalid> {
    if delta != 0 && (-MAX_STOCK..=MAX_STOCK).contains(&delta) {
        Ok(delta)
    } else {
        Err(format!("must be between -{MAX_STOCK} and {MAX_STOCK}, and not 0").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(body: &'static str) -> Vec<String> {
        let headers = HeaderMap::new();
        let problem = read(&Bytes::from_static(body.as_bytes()), &headers).unwrap_err();
        problem.fields().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        assert_eq!(wrong("{}"), ["delta", "reason"]);
        for delta in
            ["0", "1.5", "\"1\"", "null", "1000000001", "-1000000001", "9223372036854775808"]
        {
            let body = format!("{{\"delta\":{delta},\"reason\":\"x\"}}");
            assert_eq!(wrong(body.leak()), ["delta"], "{delta}");
        }
        for reason in ["\"\"", "\" \"", "7", "null", "\"a\\u0000\""] {
            let body = format!("{{\"delta\":1,\"reason\":{reason}}}");
            assert_eq!(wrong(body.leak()), ["reason"], "{reason}");
        }
    }

    #[test]
    fn another_product_or_change_is_another_request() {
        let note = |text: &str| StockNote::new(text.to_owned()).unwrap();
        let key = |delta, text, product| {
            Adjustment { delta, note: note(text), key: Some("k") }.key(product, "").unwrap()
        };
        let first = key(1, "x", 7);
        assert!(first.is_repeat_of(&key(1, "x", 7)));
        for other in [key(2, "x", 7), key(1, "y", 7), key(1, "x", 8)] {
            assert!(!first.is_repeat_of(&other));
        }
    }
}
