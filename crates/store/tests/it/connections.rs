//! Connections of dropped calls.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::join_all};
use holdfast_domain::{ProductDraft, ProductName};
use holdfast_sandbox::Proxy;
use holdfast_store::{LockMode, OrderPage, Store, StoreError, StoreSettings};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;

use crate::fixture::{
    self, database_url, lock, new_product, product, settings, until_true, write_one_each,
};

/// A store with one connection through a proxy, and a direct connection to the same database.
async fn through_a_proxy() -> (Store, Proxy, Store) {
    let direct = fixture::store().await;
    let url: url::Url = database_url(&direct).await.parse().unwrap();
    let proxy = Proxy::start(url.socket_addrs(|| None).unwrap()[0]).await.unwrap();
    let mut through = url.clone();
    through.set_port(Some(proxy.address().port())).unwrap();
    let settings = StoreSettings { pool_size: 1, ..settings(through.as_str()) };
    (Store::connect(&settings), proxy, direct)
}

/// A client hangs up while `BEGIN` is on its way. The next user of the connection must not be in the transaction.
#[tokio::test]
async fn a_write_after_a_lock_abandoned_before_its_transaction_began_is_kept() {
    let (store, proxy, direct) = through_a_proxy().await;
    let lamp = product(&store, 5).await;
    proxy.blackhole(true);
    {
        let mut locking = pin!(store.lock_product(lamp.id));
        for _ in 0..20 {
            assert!(locking.as_mut().now_or_never().is_none(), "nothing passes");
            // Time for whatever the connection would do by itself.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    proxy.blackhole(false);
    let made = store.create_product(&new_product(7)).await.unwrap();
    assert_eq!(direct.product(made.id).await.unwrap(), Some(made));
}

/// PostgreSQL makes a change, and its answer is lost. The caller must not be told that nothing happened.
#[tokio::test]
async fn a_change_whose_answer_is_lost_is_not_reported_as_refused() {
    let (store, proxy, direct) = through_a_proxy().await;
    // So that the next call is sent in one message.
    product(&store, 5).await;
    proxy.deaf_after(Some(b"Unheard"));
    let name = ProductName::new("Unheard".to_owned()).unwrap();
    let new = ProductDraft { name, ..new_product(1) };
    let lose_the_answer = async {
        let made = "SELECT EXISTS (SELECT FROM products WHERE name = 'Unheard')";
        until_true(direct.pool(), made).await;
        proxy.cut();
    };
    let (answer, ()) = tokio::join!(store.create_product(&new), lose_the_answer);
    assert!(matches!(answer, Err(StoreError::Unanswered(_))), "{answer:?}");
}

#[tokio::test]
async fn the_first_change_after_all_sessions_were_ended_is_done() {
    let direct = fixture::store().await;
    let store = Store::connect(&settings(&database_url(&direct).await));
    for _ in 0..5 {
        // The connection was just used, so only an answer shows that the session has ended.
        let made =
            join_all((0..8).map(async |_| store.create_product(&new_product(1)).await)).await;
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        sqlx::query(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND backend_type = 'client backend'",
        )
        .execute(direct.pool())
        .await
        .unwrap();
        store.create_product(&new_product(1)).await.unwrap();
    }
}

/// A store with one connection for changes, in which changes of locked rows wait for as long as the test takes.
#[tokio::test]
async fn changes_that_wait_for_locked_rows_leave_connections_for_others() {
    let direct = fixture::store().await;
    let settings = StoreSettings {
        pool_size: 2,
        lock_timeout: Duration::from_mins(1),
        acquire_timeout: Duration::from_secs(10),
        ..settings(&database_url(&direct).await)
    };
    let store = Store::connect(&settings);
    let mut locked = Vec::new();
    for _ in 0..30 {
        locked.push(product(&store, 5).await.id);
    }
    let vase = product(&store, 5).await;
    let mut holder = direct.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM products WHERE id = ANY ($1) FOR UPDATE")
        .bind(locked.iter().map(|id| id.0).collect::<Vec<_>>())
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut changes = JoinSet::new();
    for at in 0..120 {
        let (store, id) = (store.clone(), locked[at % locked.len()]);
        changes.spawn(async move { store.lock_product(id).await.map(drop) });
    }
    for _ in 0..50 {
        drop(store.lock_product(vase.id).await.unwrap().unwrap());
        store.create_product(&new_product(1)).await.unwrap();
        store.product(locked[0]).await.unwrap().unwrap();
    }
    let reads = join_all((0..40).map(|_| store.product(vase.id))).await;
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
    store.orders(&OrderPage { limit: 10, ..OrderPage::default() }).await.unwrap();
    let batch = lock(&store, &[vase.id], LockMode::Wait).await;
    write_one_each(batch, &[vase.id]).await.commit().await.unwrap();
    assert!(changes.try_join_next().is_none(), "all wait still");

    holder.rollback().await.unwrap();
    while let Some(locked) = changes.join_next().await {
        locked.unwrap().unwrap();
    }
}

/// Batches take turns on a row without a pause. A change of the same product gets its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_continuously_sold_product_is_made() {
    let store = fixture::patient(&fixture::store().await).await;
    let lamp = product(&store, 1_000_000).await.id;
    let changed = Arc::<AtomicBool>::default();
    let mut sellers = JoinSet::new();
    for _ in 0..3 {
        let (seller, changed) = (fixture::patient(&store).await, Arc::clone(&changed));
        sellers.spawn(async move {
            while !changed.load(Ordering::Relaxed) {
                let batch = lock(&seller, &[lamp], LockMode::Wait).await;
                write_one_each(batch, &[lamp]).await.commit().await.unwrap();
            }
        });
    }
    for _ in 0..20 {
        let locked = store.lock_product(lamp).await.unwrap().unwrap();
        let edit = locked.stock_with(1).unwrap();
        locked.adjust(&edit, None).await.unwrap();
    }
    changed.store(true, Ordering::Relaxed);
    while let Some(seller) = sellers.join_next().await {
        seller.unwrap();
    }
}

/// A restore distinguishes the operator's sessions from those that place and fulfil orders by these names.
#[tokio::test]
async fn sessions_have_the_name_of_their_program() {
    let direct = fixture::store().await;
    let url = database_url(&direct).await;
    for name in ["holdfast", "holdfast-operator"] {
        let store = Store::connect(&StoreSettings { application_name: name, ..settings(&url) });
        let seen: String = sqlx::query_scalar("SELECT current_setting('application_name')")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(seen, name);
    }
}

#[tokio::test]
async fn reads_of_a_locked_table_take_no_connection_from_others() {
    let url = database_url(&fixture::store().await).await;
    let store = Store::connect(&StoreSettings {
        lock_timeout: Duration::from_mins(1),
        pool_size: 4,
        ..settings(&url)
    });
    let lamp = product(&store, 5).await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    other.execute("BEGIN; LOCK TABLE orders").await.unwrap();
    let reads: Vec<_> = (0..40)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                store.orders(&OrderPage { limit: 1, ..OrderPage::default() }).await
            })
        })
        .collect();
    for _ in 0..20 {
        store.product(lamp.id).await.unwrap();
        product(&store, 1).await;
    }
    assert!(reads.iter().all(|read| !read.is_finished()));
    other.execute("COMMIT").await.unwrap();
    for read in reads {
        read.await.unwrap().unwrap();
    }
}
