//! Locks on product rows: the one module that takes them.
//!
//! Three ways, all `SELECT … FOR UPDATE`, so that they exclude each other:
//! - [`Store::lock_product`], one row, for a change of the product itself;
//! - [`lock_rows`], several, for a flash sale;
//! - [`lock`], the rows of a batch.
//!
//! There is no deadlock, whatever the number of replicas, because nobody waits for a product's row
//! in a circle: a statement that waits for several takes them in the order of the ids (`ORDER BY
//! id` below the locking step). With [`LockMode::WaitFor`] the wait comes first, before the batch has any lock,
//! and what is locked by others then is left out.
//!
//! No batch waits for long: `lock_timeout` of its session is the time of a hand-over between two batches. What
//! a batch needs beside products (the orders that it cancels, the holds that it ends) is locked with
//! `SKIP LOCKED`, because it has the rows of products locked by then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::TryStreamExt as _;
use holdfast_domain::{
    Available, HeldUnits, HoldId, LockedOrder, Money, OrderId, ProductId, Quantity, Shelf, Stock,
};
use sqlx::{AssertSqlSafe, Either, PgExecutor, Row as _, postgres::PgRow};

use crate::{
    IdempotencyKey, KeyedResult, LockedProduct, ResultKind, Store, StoreError,
    calls::again,
    connections::{Message, Session, Transaction},
    hand_over::HAND_OVER_MIN,
    places::{Place, Places},
    rows::{self, corrupt},
    sales::selling,
};

/// What to do about a product's row that another transaction holds. Rows of orders and holds are left
/// out in every mode.
///
/// A wait lasts no longer than another batch needs for its work: see `hand_over`. A row that
/// stays locked beyond that is waited for without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Wait for each, in the order of the ids.
    Wait,
    /// Wait for this one, and leave out others that are locked then.
    WaitFor(ProductId),
    /// Leave it out: `SKIP LOCKED`.
    Skip,
}

/// What a batch needs to see, and to keep as it is until its end.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// The products to lock.
    pub products: BTreeSet<ProductId>,
    /// The keys to look up.
    pub keys: Vec<&'a IdempotencyKey>,
    /// The holds to look at; their products are among `products`.
    pub holds: BTreeSet<HoldId>,
    /// The orders to lock; the products of their lines are among `products`.
    pub orders: BTreeSet<OrderId>,
}

/// What a batch has found and locked.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The transaction's id, if there was a row to lock. With it the fate of a commit can be looked
    /// up should the connection break under it.
    pub xid: String,
    pub shelf: Shelf,
    /// By the key's number.
    pub keyed: BTreeMap<u128, KeyedResult>,
    /// Where the locked rows are.
    pub places: BTreeMap<ProductId, Place>,
}

/// The columns that [`Found::product`] reads.
macro_rules! product_columns {
    () => {
        "id, ctid::text AS place, stock, held, price_minor, version, \
         retired_at IS NULL AS on_sale, pg_current_xact_id()::text AS xid, \
         sales::text AS sales, CASE WHEN sales IS NOT NULL \
             THEN (extract(epoch FROM now()) * 1000000)::bigint END AS now_us"
    };
}

/// The rows at the places given, and of the products that are not found there, the rows by their
/// ids. See [`crate::places`].
macro_rules! lock_by_place {
    () => {
        concat!(
            "WITH placed AS MATERIALIZED (SELECT ",
            product_columns!(),
            " FROM products WHERE ctid = ANY($1) FOR UPDATE SKIP LOCKED) TABLE placed UNION ALL SELECT * FROM (SELECT ",
            product_columns!(),
            " FROM products WHERE id = ANY(ARRAY( \
                 SELECT unnest($2) EXCEPT SELECT id FROM placed)) ORDER BY id \
                 FOR UPDATE SKIP LOCKED) AS searched; "
        )
    };
}

/// The row of a product that is looked for on one page, from $1 up to $2, and by its id only if it is not
/// there. Waits for it.
///
/// The row of a product that two replicas sell moves with each batch of the other, but stays on its page as
/// long as there is room. `id + 0` keeps the planner from the index: it would walk over all versions that an
/// old snapshot keeps.
macro_rules! lock_near {
    () => {
        concat!(
            "WITH near AS MATERIALIZED (SELECT ",
            product_columns!(),
            " FROM products WHERE ctid >= $1 AND ctid < $2 AND id + 0 = $3 FOR UPDATE) \
             TABLE near UNION ALL SELECT * FROM (SELECT ",
            product_columns!(),
            " FROM products WHERE id = $3 AND NOT EXISTS (SELECT FROM near) FOR UPDATE) \
                 AS searched; "
        )
    };
}

/// What a connection of admission prepares when it is made, so that `BEGIN` and the locks can go in
/// one round trip later.
///
/// A handful of rows by their keys or places is all that these sessions ever want. The planner is told
/// so: after a flash sale its statistics know nothing of the rows, or of how many dead
/// versions a scan of the table would read.
pub(crate) const PREPARE: &str = concat!(
    "SET holdfast.writes_ledger = 'on'; SET plan_cache_mode = 'force_generic_plan'; \
     SET enable_seqscan = 'off'; SET enable_hashjoin = 'off'; SET enable_mergejoin = 'off'; ",
    "PREPARE holdfast_lock_wait (bigint[]) AS SELECT ",
    product_columns!(),
    " FROM products WHERE id = ANY($1) ORDER BY id FOR UPDATE; ",
    "PREPARE holdfast_lock_near (tid, tid, bigint) AS ",
    lock_near!(),
    "PREPARE holdfast_lock_skip (tid[], bigint[]) AS ",
    lock_by_place!(),
    "PREPARE holdfast_keys (uuid[]) AS \
         SELECT key::text, fingerprint, kind, result_id FROM idempotency_keys \
         WHERE key = ANY($1); \
     PREPARE holdfast_lock_holds (bigint[]) AS \
         SELECT id, product_id, quantity, unit_price_minor, customer_ref, \
                CASE WHEN status = 'active' AND expires_at <= now() THEN 'expired' \
                     ELSE status END AS status, status = 'active' AS kept \
         FROM holds WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED; \
     PREPARE holdfast_lock_orders (bigint[]) AS \
         SELECT id, status, attempt > coalesce(not_taken, 0) AS may_be_fulfilled FROM orders \
         WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED"
);

/// The statements of a batch's first round trip, in the order in which they are sent.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// One without an answer.
    Other,
    Keys,
    Products,
    Holds,
    Orders,
}

/// The statements of a batch's first round trip.
fn first_round_trip(
    wanted: &Wanted<'_>,
    mode: LockMode,
    wait: Duration,
    places: &Places,
) -> (String, Vec<Step>) {
    // Only integers, places and UUIDs are put into the text, so nothing in it can be anybody's SQL.
    let mut script = Script { sql: String::with_capacity(256), steps: Vec::with_capacity(8) };
    script.run(Step::Other, "BEGIN");
    // Before the locks: it need not be done under them.
    script.execute(Step::Keys, "holdfast_keys", &[list(wanted.keys.iter().map(|key| key.key))]);
    let all = &wanted.products;
    match mode {
        LockMode::Wait => {
            script.wait_up_to(wait);
            script.execute(Step::Products, "holdfast_lock_wait", &[list(all)]);
            script.wait_up_to(HAND_OVER_MIN);
        }
        LockMode::Skip => {
            let known = places.of(all.iter());
            script.execute(Step::Products, "holdfast_lock_skip", &[known, list(all)]);
        }
        LockMode::WaitFor(first) => {
            script.wait_up_to(wait);
            match places.page_of(first) {
                Some((from, to)) => script.run(
                    Step::Products,
                    &format!("EXECUTE holdfast_lock_near('{from}','{to}',{first})"),
                ),
                None => {
                    script.execute(Step::Products, "holdfast_lock_wait", &[first.to_string()]);
                }
            }
            script.wait_up_to(HAND_OVER_MIN);
            let others = || all.iter().filter(|id| **id != first);
            let known = places.of(others());
            script.execute(Step::Products, "holdfast_lock_skip", &[known, list(others())]);
        }
    }
    script.execute(Step::Holds, "holdfast_lock_holds", &[list(&wanted.holds)]);
    script.execute(Step::Orders, "holdfast_lock_orders", &[list(&wanted.orders)]);
    (script.sql, script.steps)
}

struct Script {
    sql: String,
    steps: Vec<Step>,
}

impl Script {
    fn run(&mut self, step: Step, statement: &str) {
        if !self.sql.is_empty() {
            self.sql.push_str("; ");
        }
        self.sql.push_str(statement);
        self.steps.push(step);
    }

    /// Executes a prepared statement with arrays, unless the last of them is empty.
    fn execute(&mut self, step: Step, statement: &str, lists: &[String]) {
        if lists.last().is_some_and(|list| !list.is_empty()) {
            let lists = lists.join("}','{");
            self.run(step, &format!("EXECUTE {statement}('{{{lists}}}')"));
        }
    }

    fn wait_up_to(&mut self, wait: Duration) {
        self.run(Step::Other, &format!("SET LOCAL lock_timeout = {}", wait.as_millis().max(1)));
    }
}

/// Begins a transaction, looks up the keys and locks the rows, in one round trip. Waits for a lock for
/// `wait`. The connection must have executed [`PREPARE`].
pub(crate) async fn lock(
    session: &mut Session,
    wanted: &Wanted<'_>,
    mode: LockMode,
    wait: Duration,
    places: &Places,
) -> Result<Found, StoreError> {
    let (sql, steps) = first_round_trip(wanted, mode, wait, places);
    let mut found = Found::default();
    let mut steps = steps.into_iter();
    let mut step = steps.next();
    let mut answers = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(Message::begin(session));
    while let Some(answer) = answers.try_next().await? {
        match answer {
            // The end of a statement.
            Either::Left(_) => step = steps.next(),
            Either::Right(row) => match step {
                Some(Step::Keys) => {
                    let (key, result) = keyed(&row)?;
                    found.keyed.insert(key, result);
                }
                Some(Step::Products) => found.product(&row, wanted)?,
                Some(Step::Holds) => {
                    let (id, hold) = held_units(&row)?;
                    found.shelf.put_hold(id, hold);
                }
                Some(Step::Orders) => found.order(&row)?,
                Some(Step::Other) | None => {}
            },
        }
    }
    Ok(found)
}

/// What keys have led to. The connection must have executed [`PREPARE`].
pub(crate) async fn look_up(
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
        kind: ResultKind::parse(row.try_get("kind")?)?,
        id: row.try_get("result_id")?,
    };
    Ok((key.as_u128(), result))
}

impl Found {
    fn product(&mut self, row: &PgRow, wanted: &Wanted<'_>) -> Result<(), StoreError> {
        let id = ProductId(row.try_get("id")?);
        if !wanted.products.contains(&id) {
            // Its row lies where that of another product used to lie.
            return Ok(());
        }
        self.places.insert(id, Place::parse(row.try_get("place")?)?);
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
        self.shelf.put(id, available);
        Ok(())
    }

    fn order(&mut self, row: &PgRow) -> Result<(), StoreError> {
        let status = rows::word("order status", row.try_get("status")?)?;
        let may_be_fulfilled = row.try_get("may_be_fulfilled")?;
        let order = LockedOrder { status, may_be_fulfilled };
        self.shelf.put_order(OrderId(row.try_get("id")?), order);
        Ok(())
    }
}

/// An array's elements, as PostgreSQL writes them.
fn list<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    use std::fmt::Write as _;

    let mut list = String::new();
    for value in values {
        // Writing to a String cannot fail.
        let _ = write!(list, "{}{value}", if list.is_empty() { "" } else { "," });
    }
    list
}

/// Reads the columns `id, product_id, quantity, unit_price_minor, customer_ref, status, kept` of a hold.
pub(crate) fn held_units(row: &PgRow) -> Result<(HoldId, HeldUnits), StoreError> {
    let units: i32 = row.try_get("quantity")?;
    let hold = HeldUnits {
        product_id: ProductId(row.try_get("product_id")?),
        quantity: Quantity::new(units.into(), i32::MAX).map_err(corrupt("quantity"))?,
        unit_price: Money::from_minor(row.try_get("unit_price_minor")?)
            .map_err(corrupt("unit price"))?,
        customer: rows::customer_ref(row)?,
        status: rows::word("hold status", row.try_get("status")?)?,
        kept: row.try_get("kept")?,
    };
    Ok((HoldId(row.try_get("id")?), hold))
}

/// Locks the rows of these products, in the order of their ids, and says of those that exist whether they are
/// sold. With the first one locked, the transaction waits for nothing longer than for another batch, `wait`.
pub(crate) async fn lock_rows(
    transaction: &mut Transaction,
    products: &BTreeSet<ProductId>,
    wait: Duration,
) -> Result<BTreeMap<ProductId, bool>, StoreError> {
    wait_at_most(transaction, wait).await?;
    let rows = sqlx::query(
        "SELECT id, retired_at IS NULL AS sold FROM products \
         WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    )
    .bind(products.iter().map(|id| id.0).collect::<Vec<_>>())
    .fetch_all(transaction)
    .await?;
    rows.iter().map(|row| Ok((ProductId(row.try_get("id")?), row.try_get("sold")?))).collect()
}

/// For the rest of the transaction, no lock is waited for longer than this: others wait for those that it has.
pub(crate) async fn wait_at_most(
    transaction: &mut Transaction,
    wait: Duration,
) -> Result<(), StoreError> {
    let sql = format!("SET LOCAL lock_timeout = {}", wait.as_millis().max(1));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(transaction).await?;
    Ok(())
}

impl Store {
    /// Locks the row of a product that is on sale.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if others hold it for too long; the database is not available.
    pub async fn lock_product(&self, id: ProductId) -> Result<Option<LockedProduct>, StoreError> {
        again(|| self.try_lock_product(id)).await
    }

    async fn try_lock_product(&self, id: ProductId) -> Result<Option<LockedProduct>, StoreError> {
        let mut transaction = self.begin_change().await?;
        let row = sqlx::query(
            "SELECT id, name, description, price_minor, stock, version, held FROM products \
             WHERE id = $1 AND retired_at IS NULL FOR UPDATE",
        )
        .bind(id.0)
        .fetch_optional(&mut transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (product, held) = (rows::product(&row)?, row.try_get("held")?);
        Ok(Some(LockedProduct { transaction, product, held }))
    }
}
