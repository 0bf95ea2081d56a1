//! Orders with several lines.

use holdfast_admission::Refusal;
use holdfast_domain::{ProductId, Shortfall};

use crate::fixture::{
    database, lock, not_enough, one, order, patient, place, replica, replica_on, serving,
};

#[tokio::test]
async fn an_order_that_waits_in_the_lane_of_a_locked_row_locks_no_other_row() {
    let replica = replica(patient()).await;
    let (lamp, vase) = (replica.product(10).await, replica.product(10).await);
    let holder = lock(&replica.store, &[vase]).await;
    let admission = replica.admission.clone();
    let both = tokio::spawn(async move { place(&admission, order(&[(lamp, 1), (vase, 1)])).await });
    replica.apart(1).await;
    // The other row stays unlocked.
    for _ in 0..5 {
        replica.place(lamp, 1).await.unwrap();
    }
    assert!(!both.is_finished());
    holder.release().await.unwrap();
    both.await.unwrap().unwrap();
    assert_eq!((replica.stock(lamp).await, replica.stock(vase).await), (4, 9));
}

#[tokio::test]
async fn an_order_moves_on_to_the_next_locked_row() {
    let replica = replica(patient()).await;
    let (lamp, vase) = (replica.product(10).await, replica.product(10).await);
    let (first, second) =
        (lock(&replica.store, &[lamp]).await, lock(&replica.store, &[vase]).await);
    let admission = replica.admission.clone();
    let both = tokio::spawn(async move { place(&admission, order(&[(vase, 2), (lamp, 2)])).await });
    replica.apart(1).await;
    second.release().await.unwrap();
    place(&replica.admission, order(&[(vase, 1)])).await.unwrap();
    assert!(!both.is_finished());
    first.release().await.unwrap();
    both.await.unwrap().unwrap();
    assert_eq!((replica.stock(lamp).await, replica.stock(vase).await), (8, 7));
}

#[tokio::test]
async fn an_unknown_product_among_known_ones_is_distinguished_from_a_locked_one() {
    let replica = replica(patient()).await;
    let lamp = replica.product(10).await;
    let unknown = Refusal::Short(Shortfall::UnknownProduct(ProductId(999)));
    let both = order(&[(lamp, 1), (ProductId(999), 1)]);
    assert_eq!(place(&replica.admission, both.clone()).await, Err(unknown));
    let holder = lock(&replica.store, &[lamp]).await;
    let admission = replica.admission.clone();
    let placing = tokio::spawn(async move { place(&admission, both).await });
    replica.apart(1).await;
    holder.release().await.unwrap();
    assert_eq!(placing.await.unwrap(), Err(unknown));
    assert_eq!(place(&replica.admission, order(&[(lamp, 11)])).await, Err(not_enough(lamp, 10)));
}

/// Orders of two replicas that need the same rows in different orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossing_orders_of_two_replicas_neither_deadlock_nor_starve() {
    const ORDERS: usize = 150;
    let url = database().await;
    let replicas = [replica_on(&url, serving()).await, replica_on(&url, serving()).await];
    let mut products = Vec::new();
    for _ in 0..4 {
        products.push(replicas[0].product(100_000).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..16_usize {
        let admission = replicas[worker % 2].admission.clone();
        let mut asked = products.clone();
        tasks.spawn(async move {
            for round in 0..ORDERS {
                asked.rotate_left((worker + round) % 3 + 1);
                let lines: Vec<_> =
                    asked.iter().take(1 + (worker + round) % 3).map(|id| (*id, 1)).collect();
                place(&admission, order(&lines)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let sold: i64 = sqlx::query_scalar(
        "SELECT (SELECT sum(quantity) FROM orders) + (SELECT sum(quantity) FROM order_lines)",
    )
    .fetch_one(replicas[0].store.pool())
    .await
    .unwrap();
    let mut left = 0;
    for id in &products {
        left += replicas[0].stock(*id).await;
    }
    assert_eq!(left + sold, 400_000);
    assert_eq!(replicas[0].orders().await, 16 * 150);
    // All crossing orders have ended.
    for replica in &replicas {
        replica.apart(0).await;
        place(&replica.admission, one(products[0], 1)).await.unwrap();
    }
}
