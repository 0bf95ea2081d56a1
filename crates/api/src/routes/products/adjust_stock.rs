//! `POST /products/{id}/stock`

use axum::{
    extract::State,
    http::{HeaderValue, Method},
};
use holdfast_cache::StockChange;
use holdfast_domain::{Invalid, LedgerEntry, MAX_STOCK, ProductId, StockEdit, StockNote};
use holdfast_store::{IdempotencyKey, ResultKind, StoreError};
use utoipa::openapi::{RefOr, Schema};

use crate::{
    access::{Caller, Scope},
    app::App,
    endpoint::{Access, Created, Endpoint, REPLAYED, Tag, WRITES},
    idempotency::{self, ClientKey},
    problem::{Problem, ProblemKind},
    request::{Id, Input, KeyedBody, Reading, Request, Value, WholeNumber, Wrong},
    stock_ledger::LedgerBody,
};

/// How often a key that another request has just taken is looked up again.
const TRIES: usize = 3;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/products/{id}/stock",
    path_example: "3",
    access: Access::Shop(Scope::ProductsWrite),
    tag: Tag::Products,
    operation_id: "adjust_stock",
    summary: "Change a product's stock by a number of units",
    description: "Adds to the current stock while the product is locked, so that no order and no other change is lost. The \
                  answer is the entry in the product's stock ledger.\n\n\
                  A request with an `Idempotency-Key` can be repeated safely: the answer is the same entry, and the units \
                  are counted once. Without a key, check the stock ledger before you try again.",
    answer: "The entry in the stock ledger",
    headers: &[REPLAYED],
    problems: &[
        &[ProblemKind::NotFound, ProblemKind::NotEnoughStock, ProblemKind::StockFull],
        WRITES,
    ],
};

/// A relative change of a product's stock.
#[derive(Debug, Request)]
pub struct StockAdjustment {
    /// The number of units to add, or to remove if negative; not 0.
    #[field(example = -2)]
    delta: StockDelta,
    /// The reason: 1 to 500 characters, kept in the stock ledger.
    #[field(example = "broken in transit")]
    reason: StockNote,
}

/// Units to add or remove.
#[derive(Clone, Copy, Debug)]
pub struct StockDelta(i64);

impl Value for StockDelta {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let delta = input.integer()?;
        if delta != 0 && (-MAX_STOCK..=MAX_STOCK).contains(&delta) {
            Ok(Self(delta))
        } else {
            let must = format!("must be between -{MAX_STOCK} and {MAX_STOCK}, and not 0");
            Err(Invalid::from(must).into())
        }
    }

    fn schema() -> RefOr<Schema> {
        WholeNumber::<{ -MAX_STOCK }, MAX_STOCK>::schema()
    }
}

pub(super) async fn adjust(
    State(app): State<App>,
    caller: Caller,
    id: Id<ProductId>,
    KeyedBody { key, body: adjustment }: KeyedBody<StockAdjustment>,
) -> Result<Created<LedgerBody>, Problem> {
    let id = id.0;
    if id < 1 {
        return Err(Problem::unknown_product(id));
    }
    let key = key.map(|key| adjustment.key(id, &key, caller.key_space()));
    let turn = match &key {
        Some(key) => Some(app.store.key_turn(key).await?),
        None => None,
    };
    for _ in 0..TRIES {
        if let Some(key) = &key
            && let Some(entry) = earlier(&app, id, key).await?
        {
            return Ok(created(entry).with(idempotency::REPEATED, HeaderValue::from_static("true")));
        }
        match (change(&app, id, &adjustment, key.as_ref()).await?, &turn) {
            (StockChangeResult::Made(entry), _) => return Ok(created(entry)),
            (StockChangeResult::KeyLocked, Some(turn)) => app.store.until_key_is_free(turn).await?,
            // Another request used the key in the meantime. The next lookup finds its result.
            _ => {}
        }
    }
    Err(Problem::new(ProblemKind::Overloaded))
}

/// The result of an earlier request with the same key, if there is one.
async fn earlier(app: &App, id: i64, key: &IdempotencyKey) -> Result<Option<LedgerEntry>, Problem> {
    let Some(result) = app.store.keyed(key).await? else { return Ok(None) };
    if result.kind != ResultKind::Adjustment || !key.led_to(&result) {
        return Err(Problem::new(ProblemKind::KeyReused));
    }
    // A key's row is written with its entry, and entries are never deleted.
    let entry = app.store.stock_change(ProductId(id), result.id).await?;
    entry.map(Some).ok_or_else(|| Problem::new(ProblemKind::Internal))
}

/// The result of a change.
enum StockChangeResult {
    Made(LedgerEntry),
    /// Another request used the key in the meantime.
    KeyTaken,
    /// Another transaction has written the key and is still running.
    KeyLocked,
}

/// Changes the stock under the product's lock.
async fn change(
    app: &App,
    id: i64,
    adjustment: &StockAdjustment,
    key: Option<&IdempotencyKey>,
) -> Result<StockChangeResult, Problem> {
    let locked = app.store.lock_product(ProductId(id)).await?;
    let locked = locked.ok_or_else(|| Problem::unknown_product(id))?;
    let (delta, left) = (adjustment.delta.0, locked.product().stock.units());
    let edit = locked
        .stock_with(delta)
        .ok_or_else(|| Problem::stock_out_of_range(id, delta, left, locked.max_stock()))?;
    let edit = StockEdit { note: Some(adjustment.reason.clone()), ..edit };
    // As in any update, the cache is fenced before the commit and updated after it. Only the stock changes, so the
    // cached product does not have to be read again.
    let (previous_version, version) = (locked.product().version, locked.next_version());
    let raised = app.cache.raise(&[(id, version)]).await;
    match locked.adjust(&edit, key).await {
        Ok(entry) => {
            let stock = entry.stock_after.units();
            raised.committed(&[StockChange { id, previous_version, version, stock }]);
            Ok(StockChangeResult::Made(entry))
        }
        Err(StoreError::KeyTaken) => {
            raised.aborted();
            Ok(StockChangeResult::KeyTaken)
        }
        Err(StoreError::LockTimeout(_)) if key.is_some() => {
            raised.aborted();
            Ok(StockChangeResult::KeyLocked)
        }
        // Dropping `raised` tells the cache to ask the database.
        Err(error) => Err(error.into()),
    }
}

fn created(entry: LedgerEntry) -> Created<LedgerBody> {
    Created::new(&LedgerBody::from(entry))
}

impl StockAdjustment {
    fn key(&self, product_id: i64, key: &ClientKey, space: &str) -> IdempotencyKey {
        let request = format!("adjustment;{product_id},{};{}", self.delta.0, self.reason.as_str());
        IdempotencyKey::new(space, key.as_str(), request.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;
    use crate::request::tests::wrong;

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        assert_eq!(wrong::<StockAdjustment>("{}"), ["delta", "reason"]);
        for delta in
            ["0", "1.5", "\"1\"", "null", "1000000001", "-1000000001", "9223372036854775808"]
        {
            let body = format!("{{\"delta\":{delta},\"reason\":\"x\"}}");
            assert_eq!(wrong::<StockAdjustment>(&body), ["delta"], "{delta}");
        }
        for reason in ["\"\"", "\" \"", "7", "null", "\"a\\u0000\""] {
            let body = format!("{{\"delta\":1,\"reason\":{reason}}}");
            assert_eq!(wrong::<StockAdjustment>(&body), ["reason"], "{reason}");
        }
    }

    #[test]
    fn another_product_or_change_is_another_request() {
        let headers = HeaderMap::from_iter([(idempotency::HEADER, HeaderValue::from_static("k"))]);
        let client_key = ClientKey::of(&headers).unwrap().unwrap();
        let key = |delta, text: &str, product| {
            let reason = StockNote::new(text.to_owned()).unwrap();
            StockAdjustment { delta: StockDelta(delta), reason }.key(product, &client_key, "")
        };
        let first = key(1, "x", 7);
        assert!(first.is_repeat_of(&key(1, "x", 7)));
        for other in [key(2, "x", 7), key(1, "y", 7), key(1, "x", 8)] {
            assert!(!first.is_repeat_of(&other));
        }
    }
}
