//! Shared by the tests: a migrated database, products, and plain SQL for checks.

use std::time::Duration;

use holdfast_domain::{
    AllocatedLine, Money, OrderId, Product, ProductDraft, ProductId, ProductName, Quantity,
    RequestedLine, Stock,
};
use holdfast_sandbox::until;
use holdfast_store::{
    Batch, BatchToken, CommitError, LockMode, OrderRecord, Records, Store, StoreSettings, Stored,
    WantedRows, Writing,
};

pub fn settings(url: &str) -> StoreSettings {
    StoreSettings {
        lock_timeout: Duration::from_millis(300),
        acquire_timeout: Duration::from_secs(10),
        ..StoreSettings::new(url).unwrap()
    }
}

/// A store on an empty database.
pub async fn empty() -> Store {
    let server = holdfast_sandbox::shared_postgres().await.unwrap();
    Store::connect(&settings(&server.create_database().await.unwrap()))
}

/// A store on a migrated database.
pub async fn store() -> Store {
    let store = empty().await;
    store.migrate().await.unwrap();
    store
}

/// A store on the same database, in which changes wait for locked rows for as long as the test takes.
pub async fn patient(store: &Store) -> Store {
    Store::connect(&StoreSettings {
        lock_timeout: Duration::from_mins(1),
        ..settings(&database_url(store).await)
    })
}

/// The URL of the store's database.
pub async fn database_url(store: &Store) -> String {
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(store.pool()).await.unwrap();
    holdfast_sandbox::shared_postgres().await.unwrap().database_url(&database)
}

/// Waits until this SQL is true, on a connection of `pool`.
pub async fn until_true(pool: &sqlx::PgPool, sql: &'static str) {
    until(sql, async || sqlx::query_scalar::<_, bool>(sql).fetch_one(pool).await.unwrap()).await;
}

pub fn new_product(stock: i64) -> ProductDraft {
    ProductDraft {
        name: ProductName::new("Lamp".to_owned()).unwrap(),
        description: None,
        price: Money::parse("12.50").unwrap(),
        stock: Stock::new(stock).unwrap(),
    }
}

pub async fn product(store: &Store, stock: i64) -> Product {
    store.create_product(&new_product(stock)).await.unwrap()
}

pub async fn stock_of(store: &Store, id: ProductId) -> i64 {
    store.product(id).await.unwrap().unwrap().stock.units()
}

pub async fn count_orders(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(store.pool()).await.unwrap()
}

pub async fn lock(store: &Store, ids: &[ProductId], mode: LockMode) -> Batch {
    store.lock_batch(&wanted(ids), mode).await.unwrap()
}

pub fn wanted(ids: &[ProductId]) -> WantedRows<'static> {
    WantedRows { products: ids.iter().copied().collect(), ..WantedRows::default() }
}

/// A batch that is written and not committed, with the stored data of its orders.
pub struct WrittenBatch {
    writing: Writing,
    pub orders: Vec<Stored<OrderId>>,
}

impl WrittenBatch {
    pub fn token(&self) -> BatchToken {
        self.writing.token().clone()
    }

    /// Commits. Returns the ids of the orders.
    pub async fn commit(self) -> Result<Vec<OrderId>, Box<CommitError>> {
        self.writing.commit().await?;
        Ok(self.orders.into_iter().map(|order| order.id).collect())
    }
}

/// Takes one unit of each of these products, in this order, without committing.
pub async fn write_one_each(batch: Batch, asked: &[ProductId]) -> WrittenBatch {
    write(batch, asked, None, 42).await
}

/// Places an order of one unit with this metadata.
pub async fn write_with_metadata(batch: Batch, id: ProductId, metadata: &str) -> OrderId {
    write(batch, &[id], Some(metadata), 43).await.commit().await.unwrap()[0]
}

async fn write(
    batch: Batch,
    asked: &[ProductId],
    metadata: Option<&str>,
    nonce: i64,
) -> WrittenBatch {
    let mut allocator = batch.allocator().clone();
    let mut orders: Vec<_> = asked
        .iter()
        .map(|id| {
            (allocator.order(&[RequestedLine::from_stock(*id, Quantity::ONE)], None).unwrap(), None)
        })
        .collect();
    let new_orders = orders
        .iter_mut()
        .map(|(order, stored)| OrderRecord { metadata, ..plain_order(&order.lines, stored) })
        .collect();
    let mut records = Records { orders: new_orders, ..Records::default() };
    let writing = batch.write(&allocator.changes(), &mut records, nonce).await.unwrap();
    WrittenBatch {
        writing,
        orders: orders.into_iter().map(|(_, stored)| stored.unwrap()).collect(),
    }
}

pub fn plain_order<'a>(
    lines: &'a [AllocatedLine],
    stored: &'a mut Option<Stored<OrderId>>,
) -> OrderRecord<'a> {
    OrderRecord {
        stored,
        lines,
        customer_ref: None,
        metadata: None,
        trace_context: None,
        key: None,
    }
}
