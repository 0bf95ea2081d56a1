//! Another session locks the row of an order that is in flight in a worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdfast_domain::OrderId;
use holdfast_worker::{FulfilError, Fulfilment, OrderToFulfil, WorkerSettings};
use sqlx::PgTransaction;
use tokio::sync::Semaphore;

use crate::fixture::{PATIENCE, SHORT_LEASE, WorkerFixture, quick, until};

/// Fulfils when the test allows it, and counts.
#[derive(Clone)]
struct Release {
    open: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}

impl Release {
    fn shut() -> Self {
        Self { open: Arc::new(Semaphore::new(0)), begun: Arc::default() }
    }

    fn open(&self) {
        self.open.add_permits(1000);
    }
}

impl Fulfilment for Release {
    async fn fulfil(&self, _: OrderToFulfil) -> Result<(), FulfilError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.acquire().await.unwrap().forget();
        Ok(())
    }
}

async fn hold(shop: &WorkerFixture, id: OrderId) -> PgTransaction<'static> {
    let mut holder = shop.store.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM orders WHERE id = $1 FOR UPDATE")
        .bind(id.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    holder
}

async fn each_was_done_once(shop: &WorkerFixture, gate: &Release, count: usize) {
    assert_eq!(gate.begun.load(Ordering::Relaxed), count);
    let attempts: i64 = sqlx::query_scalar("SELECT sum(attempt)::bigint FROM orders")
        .fetch_one(shop.store.pool())
        .await
        .unwrap();
    assert_eq!(attempts, i64::try_from(count).unwrap());
}

#[tokio::test]
async fn a_locked_order_delays_only_its_own_outcome() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(30).await;
    shop.publish(&ids).await;
    let gate = Release::shut();
    let settings = WorkerSettings { lease: Duration::from_mins(1), ..quick() };
    let worker = shop.worker(settings, gate.clone());
    shop.until("processing", 30).await;
    let holder = hold(&shop, ids[3]).await;
    gate.open();
    shop.until("completed", 29).await;
    // The worker fulfils new orders as usual.
    let more = shop.orders(10).await;
    shop.publish(&more).await;
    shop.until("completed", 39).await;
    assert_eq!(shop.count("processing").await, 1);
    holder.rollback().await.unwrap();
    shop.until("completed", 40).await;
    shop.until_empty().await;
    each_was_done_once(&shop, &gate, 40).await;
    assert!(worker.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn a_lease_that_expires_while_its_row_is_locked_does_not_count_as_lost() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(2).await;
    shop.publish(&ids).await;
    let gate = Release::shut();
    // Without the sweep, no other worker can get the order.
    let settings =
        WorkerSettings { lease: SHORT_LEASE, sweep_interval: Duration::from_hours(1), ..quick() };
    let _worker = shop.worker(settings, gate.clone());
    shop.until("processing", 2).await;
    until("both are begun", async || gate.begun.load(Ordering::Relaxed) == 2).await;
    let holder = hold(&shop, ids[0]).await;
    let over = async |id: OrderId, by: f64| -> bool {
        sqlx::query_scalar(
            "SELECT lease_until < now() - $2 * interval '1 s' FROM orders WHERE id = $1",
        )
        .bind(id.0)
        .bind(by)
        .fetch_one(shop.store.pool())
        .await
        .unwrap()
    };
    until("the locked order's lease is over", async || over(ids[0], 1.0).await).await;
    assert!(!over(ids[1], 0.5).await, "the other's is renewed");
    gate.open();
    shop.until("completed", 1).await;
    holder.rollback().await.unwrap();
    shop.until("completed", 2).await;
    shop.until_empty().await;
    each_was_done_once(&shop, &gate, 2).await;
}
