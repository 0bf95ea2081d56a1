//! What the tests share: a migrated database, products, and plain SQL for looking.

use std::time::Duration;

use holdfast_domain::{
    Demand, Grant, Line, Money, NewProduct, OrderId, Product, ProductId, ProductName, Quantity,
    Stock,
};
use holdfast_store::{Batch, LockMode, NewOrder, Records, Store, StoreSettings, Wanted, Writing};

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

/// Where the store's own database is.
pub async fn database_url(store: &Store) -> String {
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(store.pool()).await.unwrap();
    holdfast_sandbox::shared_postgres().await.unwrap().database_url(&database)
}

pub fn new_product(stock: i64) -> NewProduct {
    NewProduct {
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

pub fn wanted(ids: &[ProductId]) -> Wanted<'static> {
    Wanted { products: ids.iter().copied().collect(), ..Wanted::default() }
}

/// Takes one unit of each product in `asked`, in that order, without committing.
pub async fn write_one_each(batch: Batch, asked: &[ProductId]) -> Writing {
    let mut shelf = batch.shelf().clone();
    let lines: Vec<_> = asked.iter().map(|id| Line::from_stock(*id, Quantity::ONE)).collect();
    let prices: Vec<_> = lines
        .iter()
        .map(|line| match shelf.serve(&Demand::one(line.product_id, line.quantity), None) {
            Ok(Grant::Order { unit_prices, .. }) => unit_prices[0],
            other => panic!("{other:?}"),
        })
        .collect();
    let orders = lines
        .iter()
        .zip(&prices)
        .map(|(line, price)| plain_order(std::slice::from_ref(line), std::slice::from_ref(price)))
        .collect();
    let records = Records { orders, ..Records::default() };
    batch.write(&shelf.changes(), &records, 42).await.unwrap()
}

/// Places an order of one unit with this metadata.
pub async fn write_with_metadata(batch: Batch, id: ProductId, metadata: &str) -> OrderId {
    let mut shelf = batch.shelf().clone();
    let line = Line { product_id: id, quantity: Quantity::ONE, hold: None, expected_price: None };
    let prices = match shelf.serve(&Demand::one(id, line.quantity), None) {
        Ok(Grant::Order { unit_prices, .. }) => unit_prices,
        other => panic!("{other:?}"),
    };
    let lines = [line];
    let order = NewOrder { metadata: Some(metadata), ..plain_order(&lines, &prices) };
    let records = Records { orders: vec![order], ..Records::default() };
    let writing = batch.write(&shelf.changes(), &records, 43).await.unwrap();
    writing.commit().await.unwrap().orders[0]
}

pub fn plain_order<'a>(lines: &'a [Line], unit_prices: &'a [Money]) -> NewOrder<'a> {
    NewOrder {
        lines,
        unit_prices,
        customer_ref: None,
        metadata: None,
        trace_context: None,
        key: None,
    }
}
