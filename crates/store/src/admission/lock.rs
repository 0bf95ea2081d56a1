//! Locking the rows of a batch, in one round trip.
//!
//! There are no deadlocks between batches, however many replicas there are. With [`LockMode::Wait`], they lock products
//! in the order of their ids (`ORDER BY id` below the locking step). With [`LockMode::WaitFor`], a batch waits before
//! it has any lock, and then leaves out rows that are locked.
//!
//! No batch waits for long: its `lock_timeout` is the time in which one batch hands its rows over to another. Orders
//! and holds that a batch needs are locked with `SKIP LOCKED`, because it has locked products by then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::TryStreamExt as _;
use holdfast_domain::{
    Available, CustomerRef, HeldUnits, HoldId, LockedOrder, Money, OrderId, ProductChange,
    ProductId, Quantity, Stock, StockAllocator,
};
use sqlx::{AssertSqlSafe, Either, FromRow as _, PgExecutor, Row as _, postgres::PgRow};

use crate::{
    connections::{Message, Session},
    error::StoreError,
    hand_over::HAND_OVER_MIN,
    idempotency::{IdempotencyKey, KeyedResult},
    rows::{corrupt, word},
    sale_windows::selling,
    tuple_ids::{TupleId, TupleIdCache},
};

/// How a batch handles a row of a product that another transaction has locked. Locked rows of orders and holds are left
/// out in every mode.
///
/// A wait lasts no longer than another batch needs for its work: see `hand_over`. If a row stays locked for longer, its
/// requests wait without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Wait for each, in the order of the ids.
    Wait,
    /// Wait for this one, then leave out others that are locked.
    WaitFor(ProductId),
    /// Leave it out: `SKIP LOCKED`.
    Skip,
}

/// What a batch reads and locks.
#[derive(Clone, Debug, Default)]
pub struct WantedRows<'a> {
    /// The products to lock.
    pub products: BTreeSet<ProductId>,
    /// The keys to look up.
    pub keys: Vec<&'a IdempotencyKey>,
    /// The holds to lock; their products are among `products`.
    pub holds: BTreeSet<HoldId>,
    /// The orders to lock; the products of their lines are among `products`.
    pub orders: BTreeSet<OrderId>,
}

/// What a batch has locked and read.
#[derive(Debug, Default)]
pub(super) struct LockedBatch {
    /// The transaction's id; empty if no product was locked. It shows whether the transaction has ended, if the commit
    /// is not answered.
    pub xid: String,
    pub allocator: StockAllocator,
    /// By [`IdempotencyKey::id`].
    pub keyed: BTreeMap<u128, KeyedResult>,
    pub rows: BTreeMap<ProductId, LockedRow>,
}

/// The fields of the row of a locked product that are not allocated.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockedRow {
    /// Its tuple id.
    pub tuple_id: TupleId,
    /// Units sold since the last entry in the stock ledger.
    pub sold_since_entry: i64,
    /// Whether sales need no entry now: there was an entry less than a second ago, and the product is in no flash sale,
    /// whose report reads the ledger.
    pub has_fresh_entry: bool,
}

/// The kinds of statements in a batch's first round trip.
#[derive(Clone, Copy, Debug)]
enum LockStep {
    /// A statement that returns no rows.
    Other,
    Keys,
    Products,
    Holds,
    Orders,
}

/// The statements of a batch's first round trip.
fn first_round_trip(
    wanted: &WantedRows<'_>,
    mode: LockMode,
    wait: Duration,
    tuple_ids: &TupleIdCache,
) -> (String, Vec<LockStep>) {
    // The text contains only integers, tuple ids and UUIDs.
    let mut script = LockScript { sql: String::with_capacity(256), steps: Vec::with_capacity(8) };
    script.run(LockStep::Other, "BEGIN");
    // Before the locks, because it does not need them.
    script.execute(LockStep::Keys, "holdfast_keys", &[list(wanted.keys.iter().map(|key| key.key))]);
    let all = &wanted.products;
    match mode {
        LockMode::Wait => {
            script.wait_up_to(wait);
            script.execute(LockStep::Products, "holdfast_lock_wait", &[list(all)]);
            script.wait_up_to(HAND_OVER_MIN);
        }
        LockMode::Skip => {
            let known = tuple_ids.of(all.iter());
            script.execute(LockStep::Products, "holdfast_lock_skip", &[known, list(all)]);
        }
        LockMode::WaitFor(first) => {
            script.wait_up_to(wait);
            match tuple_ids.page_of(first) {
                Some((from, to)) => script.run(
                    LockStep::Products,
                    &format!("EXECUTE holdfast_lock_near('{from}','{to}',{first})"),
                ),
                None => {
                    script.execute(LockStep::Products, "holdfast_lock_wait", &[first.to_string()]);
                }
            }
            script.wait_up_to(HAND_OVER_MIN);
            let others = || all.iter().filter(|id| **id != first);
            let known = tuple_ids.of(others());
            script.execute(LockStep::Products, "holdfast_lock_skip", &[known, list(others())]);
        }
    }
    script.execute(LockStep::Holds, "holdfast_lock_holds", &[list(&wanted.holds)]);
    script.execute(LockStep::Orders, "holdfast_lock_orders", &[list(&wanted.orders)]);
    (script.sql, script.steps)
}

struct LockScript {
    sql: String,
    steps: Vec<LockStep>,
}

impl LockScript {
    fn run(&mut self, step: LockStep, statement: &str) {
        if !self.sql.is_empty() {
            self.sql.push_str("; ");
        }
        self.sql.push_str(statement);
        self.steps.push(step);
    }

    /// Executes a prepared statement with arrays, unless the last array is empty.
    fn execute(&mut self, step: LockStep, statement: &str, lists: &[String]) {
        if lists.last().is_some_and(|list| !list.is_empty()) {
            let lists = lists.join("}','{");
            self.run(step, &format!("EXECUTE {statement}('{{{lists}}}')"));
        }
    }

    fn wait_up_to(&mut self, wait: Duration) {
        self.run(LockStep::Other, &format!("SET LOCAL lock_timeout = {}", wait.as_millis().max(1)));
    }
}

/// Begins a transaction, reads the keys and locks the rows, in one round trip. Waits for a lock for at most `wait`. The
/// connection must have executed [`PREPARE`](crate::prepared::PREPARE).
pub(super) async fn lock(
    session: &mut Session,
    wanted: &WantedRows<'_>,
    mode: LockMode,
    wait: Duration,
    tuple_ids: &TupleIdCache,
) -> Result<LockedBatch, StoreError> {
    let (sql, steps) = first_round_trip(wanted, mode, wait, tuple_ids);
    let mut locked = LockedBatch::default();
    let mut steps = steps.into_iter();
    let mut step = steps.next();
    let mut answers = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(Message::begin(session));
    while let Some(answer) = answers.try_next().await? {
        match answer {
            // The end of a statement.
            Either::Left(_) => step = steps.next(),
            Either::Right(row) => match step {
                Some(LockStep::Keys) => {
                    let (key, result) = keyed(&row)?;
                    locked.keyed.insert(key, result);
                }
                Some(LockStep::Products) => locked.product(&row, wanted)?,
                Some(LockStep::Holds) => {
                    let (id, hold) = HeldRow::from_row(&row)?.units()?;
                    locked.allocator.add_hold(id, hold);
                }
                Some(LockStep::Orders) => locked.order(&row)?,
                Some(LockStep::Other) | None => {}
            },
        }
    }
    Ok(locked)
}

/// The results of keys. The connection must have executed [`PREPARE`](crate::prepared::PREPARE).
pub(super) async fn look_up(
    connection: impl PgExecutor<'_>,
    keys: &[IdempotencyKey],
) -> Result<BTreeMap<u128, KeyedResult>, StoreError> {
    let keys = list(keys.iter().map(|key| key.key));
    let sql = format!("EXECUTE holdfast_keys('{{{keys}}}')");
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?;
    rows.iter().map(keyed).collect()
}

/// Reads the columns `key, fingerprint, kind, result_id`.
fn keyed(row: &PgRow) -> Result<(u128, KeyedResult), StoreError> {
    let key: &str = row.try_get("key")?;
    let key = uuid::Uuid::parse_str(key).map_err(|error| StoreError::Corrupt {
        what: "idempotency key",
        reason: error.to_string(),
    })?;
    let result = KeyedResult {
        fingerprint: row.try_get("fingerprint")?,
        kind: word("kind of an idempotency key's result", row.try_get("kind")?)?,
        id: row.try_get("result_id")?,
    };
    Ok((key.as_u128(), result))
}

impl LockedRow {
    /// Whether the batch enters this change in the stock ledger. If it does not, a later entry includes the units sold.
    pub fn enters(&self, change: &ProductChange) -> bool {
        !self.has_fresh_entry
            || change.delta != -change.sold
            || change.held != 0
            || change.sold <= 0
    }
}

impl LockedBatch {
    fn product(&mut self, row: &PgRow, wanted: &WantedRows<'_>) -> Result<(), StoreError> {
        let id = ProductId(row.try_get("id")?);
        if !wanted.products.contains(&id) {
            // The tuple id now belongs to the row of another product.
            return Ok(());
        }
        let locked = LockedRow {
            tuple_id: TupleId::parse(row.try_get("place")?)?,
            sold_since_entry: row.try_get("sold_since_entry")?,
            has_fresh_entry: row.try_get("has_fresh_entry")?,
        };
        self.rows.insert(id, locked);
        if self.xid.is_empty() {
            self.xid = row.try_get("xid")?;
        }
        let available = Available {
            stock: Stock::new(row.try_get("stock")?).map_err(corrupt("stock"))?,
            held: row.try_get("held")?,
            price: Money::from_minor(row.try_get("price_minor")?).map_err(corrupt("price"))?,
            version: row.try_get("version")?,
            on_sale: row.try_get("on_sale")?,
            selling: selling(row)?,
        };
        self.allocator.add_product(id, available);
        Ok(())
    }

    fn order(&mut self, row: &PgRow) -> Result<(), StoreError> {
        let status = word("order status", row.try_get("status")?)?;
        let may_be_fulfilled = row.try_get("may_be_fulfilled")?;
        let order = LockedOrder { status, may_be_fulfilled };
        self.allocator.add_order(OrderId(row.try_get("id")?), order);
        Ok(())
    }
}

/// The elements of an array, as PostgreSQL writes them.
fn list<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    use std::fmt::Write as _;

    let mut list = String::new();
    for value in values {
        // Writing to a String cannot fail.
        let _ = write!(list, "{}{value}", if list.is_empty() { "" } else { "," });
    }
    list
}

/// A locked row of `holds`.
#[derive(sqlx::FromRow)]
pub(super) struct HeldRow {
    pub id: i64,
    pub product_id: i64,
    pub quantity: i32,
    pub unit_price_minor: i64,
    pub customer_ref: Option<String>,
    pub status: String,
    pub kept: bool,
}

impl HeldRow {
    pub fn units(self) -> Result<(HoldId, HeldUnits), StoreError> {
        let hold = HeldUnits {
            product_id: ProductId(self.product_id),
            quantity: Quantity::new(self.quantity.into(), i32::MAX).map_err(corrupt("quantity"))?,
            unit_price: Money::from_minor(self.unit_price_minor).map_err(corrupt("unit price"))?,
            customer: self.customer_ref.map(CustomerRef::kept),
            status: word("hold status", &self.status)?,
            kept: self.kept,
        };
        Ok((HoldId(self.id), hold))
    }
}
