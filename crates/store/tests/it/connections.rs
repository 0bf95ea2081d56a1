//! What becomes of a connection whose call is given up.

use std::{pin::pin, time::Duration};

use futures::FutureExt as _;
use holdfast_domain::{NewProduct, ProductName};
use holdfast_sandbox::Proxy;
use holdfast_store::{Store, StoreError, StoreSettings};

use crate::fixture::{self, database_url, new_product, product, settings};

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

/// A client that hangs up while `BEGIN` is on its way: whoever uses the connection next must not find itself in
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
    let new = NewProduct { name, ..new_product(1) };
    let lose_the_answer = async {
        let made = "SELECT EXISTS (SELECT FROM products WHERE name = 'Unheard')";
        while !sqlx::query_scalar::<_, bool>(made).fetch_one(direct.pool()).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.cut();
    };
    let (answer, ()) = tokio::join!(store.create_product(&new), lose_the_answer);
    assert!(matches!(answer, Err(StoreError::Unanswered(_))), "{answer:?}");
}
