use holdfast_domain::{OrderStatus, ProductChange, ProductId, Quantity, RequestedLine};
use holdfast_store::{Batch, LockMode, OrderPage, Records, Store, StoreError};

use crate::fixture::{
    count_orders, database_url, lock, plain_order, product, settings, stock_of, store, wanted,
    write_one_each,
};

/// The products that a batch has locked.
fn on(batch: &Batch) -> Vec<ProductId> {
    batch.allocator().products().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_batch_is_written_in_the_order_of_its_placements() {
    let store = store().await;
    let (lamp, vase) = (product(&store, 5).await, product(&store, 5).await);
    let batch = lock(&store, &[vase.id, lamp.id], LockMode::Wait).await;
    assert_eq!(on(&batch), [lamp.id, vase.id]);
    let asked = [vase.id, lamp.id, vase.id];
    let written = write_one_each(batch, &asked).await;
    let created_at = written.orders[0].created_at;
    let ids = written.commit().await.unwrap();

    assert!(ids.is_sorted());
    for (id, product_id) in ids.iter().zip(asked) {
        let order = store.order(*id).await.unwrap().unwrap();
        assert_eq!(order.lines[0].product_id, product_id);
        assert_eq!(order.created_at, created_at);
        assert_eq!(order.status, OrderStatus::Pending);
        assert_eq!(order.lines[0].unit_price, lamp.price);
    }
    assert_eq!(stock_of(&store, lamp.id).await, 4);
    assert_eq!(stock_of(&store, vase.id).await, 3);
    assert_eq!(store.product(vase.id).await.unwrap().unwrap().version, 2, "one change per batch");

    let page = OrderPage { product: Some(vase.id), limit: 10, ..OrderPage::default() };
    let listed = store.orders(&page).await.unwrap().items;
    let listed: Vec<_> = listed.iter().map(|order| order.id).collect();
    assert_eq!(listed, [ids[2], ids[0]], "newest first");
}

#[tokio::test]
async fn a_batch_that_is_dropped_at_any_step_leaves_nothing_and_frees_the_row() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    drop(lock(&store, &[lamp.id], LockMode::Wait).await);
    drop(write_one_each(lock(&store, &[lamp.id], LockMode::Wait).await, &[lamp.id]).await);
    lock(&store, &[lamp.id], LockMode::Wait).await.release().await.unwrap();
    // The row is unlocked at once, and nothing has changed.
    let batch = lock(&store, &[lamp.id], LockMode::Wait).await;
    assert_eq!(batch.allocator().products().next().unwrap().1.stock.units(), 5);
    assert_eq!(count_orders(&store).await, 0);
}

#[tokio::test]
async fn a_locked_row_is_left_out_or_waited_for() {
    let store = store().await;
    let (lamp, vase) = (product(&store, 5).await, product(&store, 5).await);
    let holder = lock(&store, &[lamp.id], LockMode::Wait).await;

    let others = lock(&store, &[lamp.id, vase.id], LockMode::Skip).await;
    assert_eq!(on(&others), [vase.id]);
    others.release().await.unwrap();

    let error = store.lock_batch(&wanted(&[lamp.id]), LockMode::Wait).await.unwrap_err();
    assert!(matches!(error, StoreError::LockTimeout(_)), "{error:?}");
    holder.release().await.unwrap();
    lock(&store, &[lamp.id], LockMode::Wait).await.release().await.unwrap();
}

#[tokio::test]
async fn an_unknown_product_is_not_locked_and_a_retired_one_is_not_on_sale() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    store.lock_product(lamp.id).await.unwrap().unwrap().retire().await.unwrap();
    let batch = lock(&store, &[lamp.id, ProductId(999)], LockMode::Skip).await;
    let found: Vec<_> = batch.allocator().products().collect();
    assert!(matches!(found[..], [(id, product)] if id == lamp.id && !product.on_sale));
}

#[tokio::test]
async fn constraints_of_the_database_prevent_overselling() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let batch = lock(&store, &[lamp.id], LockMode::Wait).await;
    let mut allocator = batch.allocator().clone();
    let order =
        allocator.order(&[RequestedLine::from_stock(lamp.id, Quantity::ONE)], None).unwrap();
    let change = ProductChange { delta: -6, ..allocator.changes()[0] };
    let mut stored = None;
    let orders = vec![plain_order(&order.lines, &mut stored)];
    let mut records = Records { orders, ..Records::default() };
    let error = batch.write(&[change], &mut records, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Database(_)), "{error:?}");
    assert_eq!(stock_of(&store, lamp.id).await, 5);
}

#[tokio::test]
async fn a_batch_with_records_that_changes_no_product_is_refused() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let batch = lock(&store, &[lamp.id], LockMode::Wait).await;
    let mut allocator = batch.allocator().clone();
    let order =
        allocator.order(&[RequestedLine::from_stock(lamp.id, Quantity::ONE)], None).unwrap();
    let mut stored = None;
    let orders = vec![plain_order(&order.lines, &mut stored)];
    let mut records = Records { orders, ..Records::default() };
    let error = batch.write(&[], &mut records, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert_eq!((stored, count_orders(&store).await), (None, 0));
}

#[tokio::test]
async fn a_batch_of_any_size_costs_three_round_trips() {
    let direct = store().await;
    let lamp = product(&direct, 1_000).await;
    let url: url::Url = database_url(&direct).await.parse().unwrap();
    let upstream = url.socket_addrs(|| None).unwrap()[0];
    let proxy = holdfast_sandbox::Proxy::start(upstream).await.unwrap();
    let mut through = url.clone();
    through.set_port(Some(proxy.address().port())).unwrap();
    let store = Store::connect(&settings(through.as_str()));
    let place = async |orders: usize| {
        let batch = lock(&store, &[lamp.id], LockMode::Skip).await;
        let asked = vec![lamp.id; orders];
        write_one_each(batch, &asked).await.commit().await.unwrap();
    };
    // The first call also connects and prepares the statements.
    place(1).await;
    for orders in [1, 200] {
        let before = proxy.round_trips();
        place(orders).await;
        assert_eq!(proxy.round_trips() - before, 3, "with {orders} orders");
    }
}

#[tokio::test]
async fn a_server_that_hangs_times_out_at_each_step() {
    use std::time::{Duration, Instant};

    let server = holdfast_sandbox::Postgres::start(holdfast_sandbox::PostgresOptions::default())
        .await
        .unwrap();
    let mut impatient = settings(&server.create_database().await.unwrap());
    // Long enough for the calls that succeed, even on a busy machine.
    impatient.statement_timeout = Duration::from_secs(2);
    impatient.acquire_timeout = Duration::from_secs(2);
    let store = Store::connect(&impatient);
    store.migrate().await.unwrap();
    let lamp = product(&store, 5).await;
    let written = write_one_each(lock(&store, &[lamp.id], LockMode::Wait).await, &[lamp.id]).await;
    // So that there is an idle connection that can hang, too.
    lock(&store, &[], LockMode::Wait).await.release().await.unwrap();

    server.pause().await.unwrap();
    let begun = Instant::now();
    let commit = written.commit().await;
    let next = store.lock_batch(&wanted(&[lamp.id]), LockMode::Wait).await;
    let took = begun.elapsed();
    server.resume().await.unwrap();
    assert!(commit.is_err());
    assert!(matches!(next, Err(StoreError::Unavailable(_) | StoreError::Busy(_))), "{next:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    // The commit reached the server, and its outcome is found when the server answers again.
    let unanswered = commit.unwrap_err();
    let outcome = store.outcome(&unanswered.token).await;
    let sold = i64::from(outcome == holdfast_store::BatchOutcome::Committed);
    assert_eq!((count_orders(&store).await, stock_of(&store, lamp.id).await), (sold, 5 - sold));
}

/// Guarantee 1 on two replicas: batches of random products that conflict all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_of_two_replicas_neither_deadlock_nor_oversell() {
    const BATCHES: i64 = 40;
    let first = store().await;
    let mut patient = settings(&database_url(&first).await);
    patient.lock_timeout = std::time::Duration::from_secs(30);
    patient.statement_timeout = std::time::Duration::from_secs(30);
    let replicas = [Store::connect(&patient), Store::connect(&patient)];
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(product(&first, 1_000).await.id);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8usize {
        let store = replicas[worker % 2].clone();
        let ids = ids.clone();
        tasks.spawn(async move {
            for round in 0..BATCHES {
                // Each task names the products in a different order; the locks are taken in the order of the ids.
                let mut asked = ids.clone();
                asked.rotate_left((worker + usize::try_from(round).unwrap()) % ids.len());
                asked.truncate(1 + worker % ids.len());
                // A wait lasts at most as long as a few batches, and is then repeated.
                let batch = loop {
                    match store.lock_batch(&wanted(&asked), LockMode::Wait).await {
                        Err(StoreError::LockTimeout(_)) => {}
                        batch => break batch.unwrap(),
                    }
                };
                write_one_each(batch, &asked).await.commit().await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut left = 0;
    for id in &ids {
        left += stock_of(&first, *id).await;
    }
    assert_eq!(left + count_orders(&first).await, 4_000);
    assert_eq!(count_orders(&first).await, 2 * BATCHES * (1 + 2 + 3 + 4));
}
