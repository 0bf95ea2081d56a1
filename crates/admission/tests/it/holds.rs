//! Holds, and returning their units.

use std::time::Duration;

use holdfast_admission::{AcceptedHold, AdmissionSettings, HoldStock, Refusal, ReleaseHold};
use holdfast_domain::{HoldStatus, ProductId, Quantity, Shortfall};

use crate::fixture::{
    Replica, database, from_hold, hold, holding, lock, not_enough, one, order, place, replica,
    replica_on, serving,
};

fn lasting(product_id: ProductId, units: i64, lasts: Duration) -> HoldStock {
    HoldStock { lasts, ..holding(product_id, units) }
}

/// Prevents sweeps during the test.
fn no_sweep() -> AdmissionSettings {
    AdmissionSettings { expiry_interval: Duration::from_hours(1), ..serving() }
}

async fn until_expired(replica: &Replica, hold: &AcceptedHold) {
    replica
        .until("the hold has expired", async || {
            let hold = replica.store.hold(hold.id).await.unwrap().unwrap();
            hold.status == HoldStatus::Expired
        })
        .await;
}

#[tokio::test]
async fn an_expired_hold_is_sold_in_the_lane_without_any_sweep() {
    let replica = replica(no_sweep()).await;
    let lamp = replica.product(5).await;
    let short = hold(&replica, lasting(lamp, 3, Duration::from_millis(1))).await;
    let long = hold(&replica, holding(lamp, 1)).await;
    until_expired(&replica, &short).await;
    // The hold's own order comes too late.
    let late = place(&replica.admission, from_hold(lamp, short.id, 3)).await;
    let ended = Shortfall::HoldEnded { hold_id: short.id, status: HoldStatus::Expired };
    assert_eq!(late, Err(Refusal::Short(ended)));
    assert_eq!(replica.stock(lamp).await, 1, "no order has needed its units yet");
    replica.place(lamp, 4).await.unwrap();
    assert_eq!(replica.metrics.holds_expired.get(), 1);
    assert_eq!(replica.place(lamp, 1).await, Err(not_enough(lamp, 0)));
    let release = ReleaseHold { hold_id: long.id, product_id: lamp };
    replica.admission.release(release).await.unwrap();
    replica.until("the released unit is sold", async || replica.place(lamp, 1).await.is_ok()).await;
}

#[tokio::test]
async fn a_batch_whose_changes_of_stock_cancel_out_is_still_written() {
    let replica = replica(no_sweep()).await;
    let (lamp, vase) = (replica.product(10).await, replica.product(1).await);
    let first = hold(&replica, holding(lamp, 3)).await;
    let release = ReleaseHold { hold_id: first.id, product_id: lamp };
    // All three requests are in the lane before it forms a batch.
    let batches = replica.metrics.batch_size.get_sample_count();
    let (released, second, refused) = tokio::join!(
        replica.admission.release(release),
        hold(&replica, holding(lamp, 3)),
        place(&replica.admission, order(&[(lamp, 1), (vase, 2)])),
    );
    assert_eq!(replica.metrics.batch_size.get_sample_count(), batches + 1);
    assert_eq!(released, Ok(()));
    assert_eq!(refused, Err(not_enough(vase, 1)));
    let status = async |id| replica.store.hold(id).await.unwrap().map(|hold| hold.status);
    assert_eq!(status(first.id).await, Some(HoldStatus::Released));
    assert_eq!(status(second.id).await, Some(HoldStatus::Active));
    assert_eq!((replica.stock(lamp).await, replica.stock(vase).await), (7, 1));
}

#[tokio::test]
async fn expired_holds_of_a_product_known_to_be_sold_out_are_found() {
    let replica = replica(no_sweep()).await;
    let lamp = replica.product(3).await;
    let short = hold(&replica, lasting(lamp, 3, Duration::from_secs(3))).await;
    replica
        .until("it is known to be sold out", async || {
            assert_eq!(replica.place(lamp, 1).await, Err(not_enough(lamp, 0)));
            replica.cache.stock_hint(lamp.0).is_some()
        })
        .await;
    until_expired(&replica, &short).await;
    replica.place(lamp, 3).await.unwrap();
    assert_eq!(replica.stock(lamp).await, 0);
}

#[tokio::test]
async fn a_sale_whose_stock_is_all_in_expired_holds_is_sold_in_batches_to_the_last_unit() {
    let replica = replica(no_sweep()).await;
    let (lamp, vase) = (replica.product(0).await, replica.product(0).await);
    over_together(&replica, lamp, 6000).await;
    // This hold expired after all holds of the lamp.
    over_together(&replica, vase, 1).await;
    // Slightly more than one batch returns each time.
    for (at, wanted) in [2500, 2500, 1000].into_iter().enumerate() {
        let orders = futures::future::join_all((0..wanted).map(|_| replica.place(lamp, 1)));
        let other = async {
            if at == 0 {
                replica.place(vase, 1).await.unwrap();
            }
        };
        let (orders, ()) = tokio::join!(orders, other);
        assert!(orders.iter().all(Result::is_ok), "no order is refused as sold out");
    }
    assert_eq!(replica.metrics.holds_expired.get(), 6001);
    assert_eq!(replica.place(lamp, 1).await, Err(not_enough(lamp, 0)));
    let batches = replica.metrics.batch_size.get_sample_count();
    assert!(batches <= 12, "{batches} batches");
}

#[tokio::test]
async fn an_order_of_more_units_than_a_batch_returns_is_served_before_those_after_it() {
    let replica = replica(no_sweep()).await;
    let (lamp, vase) = (replica.product(10).await, replica.product(0).await);
    over_together(&replica, lamp, 5000).await;
    over_together(&replica, vase, 3000).await;
    let place = |units| place(&replica.admission, order(&[(lamp, units), (vase, 1500)]));
    let (large, later) = tokio::join!(place(5000), replica.place(lamp, 11));
    large.unwrap();
    assert_eq!(later, Err(not_enough(lamp, 10)), "the order that came first is served first");
    place(10).await.unwrap();
    assert_eq!(replica.metrics.holds_expired.get(), 8000);
    assert_eq!((replica.stock(lamp).await, replica.stock(vase).await), (0, 0));
}

#[tokio::test]
async fn a_hold_gets_the_units_of_any_number_of_expired_holds() {
    let replica = replica(no_sweep()).await;
    let lamp = replica.product(1).await;
    over_together(&replica, lamp, 3000).await;
    let units = Quantity::new(3001, 10_000).unwrap();
    hold(&replica, HoldStock { quantity: units, ..holding(lamp, 1) }).await;
    assert_eq!(replica.metrics.holds_expired.get(), 3000);
    let refused = replica.admission.hold(holding(lamp, 1)).await;
    assert_eq!(refused.unwrap_err(), not_enough(lamp, 0));
}

#[tokio::test]
async fn other_products_are_sold_between_the_batches_of_an_order_of_expired_holds() {
    let replica = replica(no_sweep()).await;
    let (lamp, vase) = (replica.product(0).await, replica.product(100).await);
    over_together(&replica, lamp, 9000).await;
    let large = replica.begin(lamp, 9000).await;
    let mut sold = 0;
    while !large.is_finished() {
        replica.place(vase, 1).await.unwrap();
        sold += 1;
    }
    large.await.unwrap().unwrap();
    assert!(sold >= 2, "{sold} orders");
}

#[tokio::test]
async fn the_sweep_returns_expired_holds_without_any_requests() {
    let settings = AdmissionSettings {
        expiry_interval: Duration::from_millis(20),
        ..AdmissionSettings::default()
    };
    let replica = replica(settings).await;
    let (lamp, vase) = (replica.product(5).await, replica.product(5).await);
    for _ in 0..3 {
        hold(&replica, lasting(lamp, 1, Duration::from_millis(1))).await;
    }
    hold(&replica, lasting(vase, 5, Duration::from_millis(1))).await;
    let keeps = hold(&replica, holding(lamp, 2)).await;
    replica
        .until("the units are returned", async || {
            replica.stock(lamp).await == 3 && replica.stock(vase).await == 5
        })
        .await;
    let status = replica.store.hold(keeps.id).await.unwrap().unwrap().status;
    assert_eq!(status, HoldStatus::Active);
    replica.until("the holds are counted", async || replica.metrics.holds_expired.get() == 4).await;
    let held: i64 = sqlx::query_scalar("SELECT sum(held)::bigint FROM products")
        .fetch_one(replica.store.pool())
        .await
        .unwrap();
    assert_eq!(held, 2);
    place(&replica.admission, one(lamp, 3)).await.unwrap();
}

/// Creates this many expired holds of one unit of a product.
async fn over_together(replica: &Replica, id: ProductId, holds: i64) {
    for query in [
        "UPDATE products SET held = held + $2, version = version + 1 WHERE id = $1",
        "INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
         SELECT $1, 1, 100, now() - interval '1 s' FROM generate_series(1, $2)",
    ] {
        sqlx::query(query).bind(id.0).bind(holds).execute(replica.store.pool()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_that_expire_together_are_returned_in_one_round_while_orders_continue() {
    let url = database().await;
    let before = replica_on(&url, no_sweep()).await;
    let (locked, hot) = (before.product(0).await, before.product(5).await);
    over_together(&before, locked, 600).await;
    let holds: i64 = std::env::var("HOLDS").map_or(10_000, |holds| holds.parse().unwrap());
    over_together(&before, hot, holds).await;
    let mut cold = Vec::new();
    for _ in 0..50 {
        let id = before.product(0).await;
        over_together(&before, id, 1).await;
        cold.push(id);
    }
    let row = lock(&before.store, &[locked]).await;
    // Its sweep runs once at the start, and then not for an hour.
    let replica = replica_on(&url, no_sweep()).await;
    let begun = std::time::Instant::now();
    replica.place(hot, 1).await.unwrap();
    let back = replica.metrics.holds_expired.get();
    assert!(back < holds.unsigned_abs(), "the order did not wait for all of them");
    replica.until("the units are returned", async || replica.stock(hot).await == holds + 4).await;
    for id in cold {
        replica.until("the unit is returned", async || replica.stock(id).await == 1).await;
    }
    println!(
        "{holds} holds of one product, and 50 of others, were returned after {:?}",
        begun.elapsed()
    );
    assert_eq!(replica.stock(locked).await, 0, "its row is locked");
    let all = holds.unsigned_abs() + 50;
    replica.until("all are counted", async || replica.metrics.holds_expired.get() == all).await;
    // Steps of at most 500 holds, the one that met the locked row, its lane, and the order.
    let batches = replica.metrics.batch_size.get_sample_count();
    let steps = holds.unsigned_abs() / 500 + 1;
    assert!((steps..steps + 20).contains(&batches), "{batches} batches");
    drop(row);
}
