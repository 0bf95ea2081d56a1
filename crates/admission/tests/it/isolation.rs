//! Locked rows delay only the requests that need them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_admission::{
    AcceptedOrder, AdmissionSettings, CancelOrder, PlaceOrder, Refusal, ReleaseHold,
};
use holdfast_domain::{OrderStatus, ProductId};
use holdfast_store::{IdempotencyKey, Store, StoreSettings};
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::fixture::{
    ForeignSession, Replica, cancellation, database, from_hold, hold, holding, not_enough, one,
    order, patient, place, replica_on,
};

/// Longer than any wait of a batch for another batch, on a busy machine.
const LONG_WAIT: &str = "1500 ms";
/// The shortest time for which requests are watched: a wait that does not end is longer than that.
const WATCHED: Duration = Duration::from_secs(3);

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey::new("", name, b"1")
}

fn keyed(product_id: ProductId, name: &str) -> PlaceOrder {
    PlaceOrder { key: Some(key(name)), ..one(product_id, 1) }
}

/// Writes the row of a key, like another replica's batch.
fn insert_key(name: &str) -> String {
    let key = Uuid::from_u128(key(name).id());
    format!("INSERT INTO idempotency_keys VALUES ('{key}', 1, 'order', 1)")
}

fn lock_rows(table: &str, ids: impl IntoIterator<Item = i64>) -> String {
    let ids: Vec<_> = ids.into_iter().map(|id| id.to_string()).collect();
    format!("SELECT FROM {table} WHERE id IN ({}) FOR UPDATE", ids.join(","))
}

fn begin_order(replica: &Replica, order: PlaceOrder) -> JoinHandle<Result<(), Refusal>> {
    let admission = replica.admission.clone();
    tokio::spawn(async move { place(&admission, order).await.map(|_| ()) })
}

fn cancel(order: &AcceptedOrder, product_id: ProductId) -> CancelOrder {
    cancellation(order.id, OrderStatus::Pending, product_id)
}

/// Samples the sessions of a database. Counts waits for locks that are longer than a batch may wait for another.
struct Watch {
    running: Arc<AtomicBool>,
    watching: JoinHandle<u64>,
}

impl Watch {
    async fn begin(url: &str) -> Self {
        let mut connection: PgConnection =
            url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let watched = Arc::clone(&running);
        let watching = tokio::spawn(async move {
            let mut long_waits = 0;
            while watched.load(Ordering::Relaxed) {
                let waits: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'holdfast' AND wait_event_type = 'Lock' \
                     AND clock_timestamp() - query_start > interval '{LONG_WAIT}'"
                )))
                .fetch_one(&mut connection)
                .await
                .unwrap();
                long_waits += u64::try_from(waits).unwrap();
                // A sample interval; the sampling ends with the test.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            long_waits
        });
        Self { running, watching }
    }

    async fn long_waits(self) -> u64 {
        self.running.store(false, Ordering::Relaxed);
        self.watching.await.unwrap()
    }
}

/// 100 products with their own requests, and 20 orders, 20 keys and 5 holds of a product that is not locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_rows_of_every_kind_delay_only_the_requests_that_need_them() {
    let url = database().await;
    let replica = replica_on(&url, patient()).await;
    let free = replica.product(100_000).await;
    let mut locked = Vec::new();
    for _ in 0..100 {
        locked.push(replica.product(10).await);
    }
    let (mut orders, mut holds) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        orders.push(replica.place(free, 1).await.unwrap());
    }
    for _ in 0..5 {
        holds.push(hold(&replica, holding(free, 1)).await.id);
    }
    let products =
        ForeignSession::begin(&url, &lock_rows("products", locked.iter().map(|id| id.0))).await;
    let order_rows =
        ForeignSession::begin(&url, &lock_rows("orders", orders.iter().map(|it| it.id.0))).await;
    let hold_rows =
        ForeignSession::begin(&url, &lock_rows("holds", holds.iter().map(|id| id.0))).await;
    let inserts: Vec<_> = (0..20).map(|at| insert_key(&format!("k{at}"))).collect();
    let key_rows = ForeignSession::begin(&url, &inserts.join("; ")).await;

    let watch = Watch::begin(&url).await;
    let mut stuck = Vec::new();
    for id in &locked {
        stuck.push(begin_order(&replica, one(*id, 1)));
    }
    for order in &orders {
        let (admission, cancel) = (replica.admission.clone(), cancel(order, free));
        stuck.push(tokio::spawn(async move { admission.cancel(cancel).await }));
    }
    for at in 0..20 {
        stuck.push(begin_order(&replica, keyed(free, &format!("k{at}"))));
    }
    for (at, hold_id) in holds.iter().enumerate() {
        if at % 2 == 0 {
            let release = ReleaseHold { hold_id: *hold_id, product_id: free };
            let admission = replica.admission.clone();
            stuck.push(tokio::spawn(async move { admission.release(release).await }));
        } else {
            stuck.push(begin_order(&replica, from_hold(free, *hold_id, 1)));
        }
    }
    replica.apart(145).await;

    // All of these continue, and none needs a connection that is used for waiting.
    let (begun, mut rounds) = (Instant::now(), 0);
    while rounds < 100 || begun.elapsed() < WATCHED {
        let placed = replica.place(free, 1).await.unwrap();
        replica.admission.cancel(cancel(&placed, free)).await.unwrap();
        place(&replica.admission, keyed(free, &format!("free {rounds}"))).await.unwrap();
        rounds += 1;
    }
    assert!(stuck.iter().all(|request| !request.is_finished()));
    assert_eq!(watch.long_waits().await, 0);

    for session in [products, order_rows, hold_rows, key_rows] {
        session.rollback().await;
    }
    for request in stuck {
        request.await.unwrap().unwrap();
    }
    replica.apart(0).await;
}

/// Two replicas alternate on the row of a hot product, while clients continuously order 30 locked ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_product_on_two_replicas_is_sold_while_other_products_are_locked() {
    let url = database().await;
    // A request for the hot product that waits for longer than this is refused, which fails the test. The replicas also wait
    // for each other's locks.
    let settings = AdmissionSettings {
        wait_max: Duration::from_secs(20),
        lock_wait_max: WATCHED,
        ..AdmissionSettings::default()
    };
    let replicas = [replica_on(&url, settings).await, replica_on(&url, settings).await];
    let hot = replicas[0].product(1_000_000).await;
    let mut locked = Vec::new();
    for _ in 0..30 {
        locked.push(replicas[0].product(10).await);
    }
    let holder =
        ForeignSession::begin(&url, &lock_rows("products", locked.iter().map(|id| id.0))).await;
    let watch = Watch::begin(&url).await;
    let running = Arc::new(AtomicBool::new(true));
    let refused = Arc::new(AtomicU64::new(0));
    let mut waiting = Vec::new();
    for (at, id) in locked.iter().enumerate() {
        let (admission, id) = (replicas[at % 2].admission.clone(), *id);
        let (running, refused) = (Arc::clone(&running), Arc::clone(&refused));
        waiting.push(tokio::spawn(async move {
            while running.load(Ordering::Relaxed) {
                assert_eq!(place(&admission, one(id, 1)).await, Err(Refusal::LockTimeout));
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let mut selling = Vec::new();
    let begun = Instant::now();
    for at in 0..16 {
        let admission = replicas[at % 2].admission.clone();
        selling.push(tokio::spawn(async move {
            let mut orders = 0;
            while orders < 100 || begun.elapsed() < WATCHED {
                place(&admission, one(hot, 1)).await.unwrap();
                orders += 1;
            }
            orders
        }));
    }
    let mut sold = 0;
    for seller in selling {
        sold += seller.await.unwrap();
    }
    running.store(false, Ordering::Relaxed);
    for waiter in waiting {
        waiter.await.unwrap();
    }
    assert!(refused.load(Ordering::Relaxed) >= 30);
    assert_eq!(watch.long_waits().await, 0);
    holder.rollback().await;
    assert_eq!(replicas[0].stock(hot).await, 1_000_000 - sold);
}

#[tokio::test]
async fn requests_for_a_locked_row_are_served_in_order_of_arrival() {
    let url = database().await;
    let replica = replica_on(&url, patient()).await;
    let lamp = replica.product(3).await;
    let holder = ForeignSession::begin(&url, &lock_rows("products", [lamp.0])).await;
    let mut waiting = Vec::new();
    for units in [2, 2, 1, 1] {
        waiting.push(replica.begin(lamp, units).await);
        replica.apart(1).await;
    }
    holder.rollback().await;
    let mut ids = Vec::new();
    for placing in waiting {
        ids.push(placing.await.unwrap().map(|order| order.id));
    }
    assert_eq!((ids[1], ids[3]), (Err(not_enough(lamp, 1)), Err(not_enough(lamp, 0))));
    assert!(ids[0].unwrap() < ids[2].unwrap(), "{ids:?}");
}

/// The number of requests that wait for all locked rows is limited, and further ones are refused.
#[tokio::test]
async fn too_many_requests_for_locked_rows_are_refused_at_once() {
    let url = database().await;
    let replica = replica_on(&url, AdmissionSettings { lane_depth: 2, ..patient() }).await;
    let mut locked = Vec::new();
    for _ in 0..9 {
        locked.push(replica.product(10).await);
    }
    let free = replica.product(10).await;
    let holder =
        ForeignSession::begin(&url, &lock_rows("products", locked.iter().map(|id| id.0))).await;
    let mut waiting = Vec::new();
    for (rows, id) in (1..).zip(&locked[..8]) {
        waiting.push(replica.begin(*id, 1).await);
        replica.apart(rows).await;
    }
    assert_eq!(replica.place(locked[8], 1).await, Err(Refusal::Full));
    replica.place(free, 1).await.unwrap();
    holder.rollback().await;
    for placing in waiting {
        placing.await.unwrap().unwrap();
    }
    replica.apart(0).await;
    replica.place(locked[8], 1).await.unwrap();
}

/// The write of a batch waits for a row of the ledger that another session has written, which cannot be known
/// beforehand.
#[tokio::test]
async fn a_write_that_times_out_delays_only_its_own_product() {
    let url = database().await;
    let replica = replica_on(&url, patient()).await;
    let (blocked, free) = (replica.product(10).await, replica.product(10).await);
    let entry = format!(
        "INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after) \
         VALUES ({}, 2, 'unknown', 0, 10, 0)",
        blocked.0
    );
    let holder = ForeignSession::begin(&url, &entry).await;
    let both = [replica.begin(blocked, 1).await, replica.begin(free, 1).await];
    let [stuck, served] = both;
    served.await.unwrap().unwrap();
    for _ in 0..5 {
        replica.place(free, 1).await.unwrap();
    }
    assert!(!stuck.is_finished());
    holder.rollback().await;
    stuck.await.unwrap().unwrap();
}

#[tokio::test]
async fn orders_wait_for_a_locked_table_and_continue_after_it() {
    let url = database().await;
    let replica = replica_on(&url, patient()).await;
    let mut products = Vec::new();
    for _ in 0..20 {
        products.push(replica.product(10).await);
    }
    for mode in ["SHARE", "ACCESS EXCLUSIVE"] {
        for table in ["products", "orders"] {
            let holder =
                ForeignSession::begin(&url, &format!("LOCK TABLE {table} IN {mode} MODE")).await;
            let mut waiting = Vec::new();
            for id in &products {
                waiting.push(replica.begin(*id, 1).await);
            }
            replica.apart(20).await;
            holder.rollback().await;
            for placing in waiting {
                placing.await.unwrap().unwrap();
            }
            replica.apart(0).await;
        }
    }
}

/// Two products, each locked for a while. An order of both never holds one while it waits for the other.
#[tokio::test]
async fn an_order_of_two_locked_products_is_served_when_both_are_unlocked() {
    let url = database().await;
    let replica = replica_on(&url, patient()).await;
    let (lamp, vase) = (replica.product(10).await, replica.product(10).await);
    let first = ForeignSession::begin(&url, &lock_rows("products", [lamp.0])).await;
    let second = ForeignSession::begin(&url, &lock_rows("products", [vase.0])).await;
    let both = begin_order(&replica, order(&[(lamp, 1), (vase, 1)]));
    replica.apart(1).await;
    first.rollback().await;
    replica.place(lamp, 1).await.unwrap();
    assert!(!both.is_finished());
    second.rollback().await;
    both.await.unwrap().unwrap();
    assert_eq!((replica.stock(lamp).await, replica.stock(vase).await), (8, 9));
}

/// An old snapshot keeps all versions of a row that two replicas sell. Their lanes find the row without reading all
/// versions, even after it has moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_find_a_row_that_another_replica_moves_while_there_is_an_old_snapshot() {
    let url = database().await;
    let replicas = [replica_on(&url, patient()).await, replica_on(&url, patient()).await];
    let hot = replicas[0].product(1_000_000).await;
    let old =
        ForeignSession::begin(&url, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
            .await;
    let sell = |replica: &Replica, orders: usize| {
        let admission = replica.admission.clone();
        tokio::spawn(async move {
            for _ in 0..orders {
                place(&admission, one(hot, 1)).await.unwrap();
            }
        })
    };
    let sellers: Vec<_> = (0..8).map(|at| sell(&replicas[at % 2], 150)).collect();
    for seller in sellers {
        seller.await.unwrap();
    }
    assert_eq!(replicas[0].stock(hot).await, 1_000_000 - 8 * 150);
    old.rollback().await;
    let store = Store::connect(&StoreSettings::new(&url).unwrap());
    assert_eq!(store.product(hot).await.unwrap().unwrap().stock.units(), 1_000_000 - 8 * 150);
}
