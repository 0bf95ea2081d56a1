//! What becomes of a connection whose call is given up.

use std::{pin::pin, time::Duration};

use futures::{FutureExt as _, future::join_all};
use holdfast_domain::{ProductDraft, ProductName};
use holdfast_sandbox::{Proxy, until};
use holdfast_store::{LockMode, OrderPage, Store, StoreError, StoreSettings};
use tokio::task::JoinSet;

use crate::fixture::{
    self, database_url, lock, new_product, product, settings, until_true, write_one_each,
};

/// A store with one connection, through a proxy; and one that goes straight to the same database.
async fn through_a_proxy() -> (Store, Proxy, Store) {
    let direct = fixture::store().await;
    let url: url::Url = database_url(&direct).await.parse().unwrap();
    let proxy = Proxy::start(url.socket_addrs(|| None).unwrap()[0]).await.unwrap();
    let mut through = url.clone();
    through.set_port(Some(proxy.address().port())).unwrap();
    let settings = StoreSettings { pool_size: 1, ..settings(through.as_str()) };
    (Store::connect(&settings), proxy, direct)
}

/// A client that hangs up while `BEGIN` is on its way: the next user of the connection must not find itself in
/// the transaction.
#[tokio::test]
async fn a_write_after_a_lock_that_was_given_up_before_its_transaction_began_is_kept() {
    let (store, proxy, direct) = through_a_proxy().await;
    let lamp = product(&store, 5).await;
    proxy.blackhole(true);
    {
        let mut locking = pin!(store.lock_product(lamp.id));
        for _ in 0..20 {
            assert!(locking.as_mut().now_or_never().is_none(), "nothing passes");
            // Whatever it would do by itself, it has time to do.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    proxy.blackhole(false);
    let made = store.create_product(&new_product(7)).await.unwrap();
    assert_eq!(direct.product(made.id).await.unwrap(), Some(made));
}

/// PostgreSQL makes a change, and its answer is lost: a caller must not hear that nothing happened.
#[tokio::test]
async fn a_change_whose_answer_is_lost_is_not_called_refused() {
    let (store, proxy, direct) = through_a_proxy().await;
    // So that the next one is sent in one message.
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

/// Whatever number of changes wait for one row: reads, lists and batches are served meanwhile, and the changes are
/// refused in bounded time.
#[tokio::test]
async fn changes_that_wait_for_one_locked_row_leave_the_connections_that_others_need() {
    let direct = fixture::store().await;
    let settings = StoreSettings {
        pool_size: 4,
        lock_timeout: Duration::from_secs(2),
        acquire_timeout: Duration::from_millis(500),
        ..settings(&database_url(&direct).await)
    };
    let store = Store::connect(&settings);
    let lamp = product(&store, 5).await;
    let vase = product(&store, 5).await;
    let mut holder = direct.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM products WHERE id = $1 FOR UPDATE")
        .bind(lamp.id.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut changes = JoinSet::new();
    for _ in 0..100 {
        let (store, id) = (store.clone(), lamp.id);
        changes.spawn(async move { store.lock_product(id).await.map(drop) });
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock'";
    until("two wait", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(direct.pool()).await.unwrap() == 2
    })
    .await;
    // Ten times as many as there are connections, while two of them wait.
    let reads = join_all((0..40).map(|_| store.product(lamp.id))).await;
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
    store.orders(&OrderPage { limit: 10, ..OrderPage::default() }).await.unwrap();
    let batch = lock(&store, &[vase.id], LockMode::Wait).await;
    write_one_each(batch, &[vase.id]).await.commit().await.unwrap();
    let waits: i64 = sqlx::query_scalar(waiting).fetch_one(direct.pool()).await.unwrap();
    assert_eq!(waits, 2, "they must be waiting still for this to prove anything");

    let (mut locked, mut busy) = (0, 0);
    while let Some(refused) = changes.join_next().await {
        match refused.unwrap().unwrap_err() {
            StoreError::LockTimeout(_) => locked += 1,
            StoreError::Busy(_) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(locked >= 2 && busy >= 90, "{locked} and {busy}");
    holder.rollback().await.unwrap();
    drop(store.lock_product(lamp.id).await.unwrap().unwrap());
}
