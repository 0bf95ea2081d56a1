//! Holds, and giving back what they keep.

use std::time::Duration;

use holdfast_admission::{Accepted, AcceptedHold, AdmissionSettings, Details, Refusal};
use holdfast_domain::{Demand, HoldStatus, Line, Lines, ProductId, Quantity, Shortfall};

use crate::lanes::{Lanes, database, lanes, lanes_on, lock, not_enough, one, order, place};

async fn hold(lanes: &Lanes, product_id: ProductId, units: i64, lasts: Duration) -> AcceptedHold {
    let quantity = Quantity::new(units, 1000).unwrap();
    let details = Details { lasts, ..Details::default() };
    match lanes
        .admission
        .place(Demand::Hold { product_id, quantity, expected_price: None }, details)
        .await
        .unwrap()
    {
        Accepted::Hold(hold) => hold,
        other => panic!("{other:?}"),
    }
}

/// Lets no sweep run while the test does.
fn no_sweep() -> AdmissionSettings {
    AdmissionSettings { expiry_interval: Duration::from_hours(1), ..AdmissionSettings::default() }
}

async fn until_expired(lanes: &Lanes, hold: AcceptedHold) {
    lanes
        .until("the hold is over", async || {
            let hold = lanes.store.hold(hold.id).await.unwrap().unwrap();
            hold.status == HoldStatus::Expired
        })
        .await;
}

#[tokio::test]
async fn an_expired_hold_is_sold_in_the_lane_without_any_sweep() {
    let lanes = lanes(no_sweep()).await;
    let lamp = lanes.product(5).await;
    let short = hold(&lanes, lamp, 3, Duration::from_millis(1)).await;
    let long = hold(&lanes, lamp, 1, Duration::from_mins(1)).await;
    until_expired(&lanes, short).await;
    // Its own order comes too late.
    let line =
        Line { hold: Some(short.id), ..Line::from_stock(lamp, Quantity::new(3, 10).unwrap()) };
    let late = place(&lanes.admission, Demand::Order(Lines::from_slice(&[line]))).await;
    let ended = Shortfall::HoldEnded { hold_id: short.id, status: HoldStatus::Expired };
    assert_eq!(late, Err(Refusal::Short(ended)));
    assert_eq!(lanes.stock(lamp).await, 1, "nobody has asked for more yet");
    lanes.place(lamp, 4).await.unwrap();
    assert_eq!(lanes.metrics.holds_expired.get(), 1);
    assert_eq!(lanes.place(lamp, 1).await, Err(not_enough(lamp, 0)));
    let release = Demand::Release { hold_id: long.id, product_id: lamp };
    lanes.admission.place(release, Details::default()).await.unwrap();
    lanes.until("what came back is known", async || lanes.place(lamp, 1).await.is_ok()).await;
}

#[tokio::test]
async fn a_batch_whose_changes_of_stock_cancel_out_is_written_all_the_same() {
    let lanes = lanes(no_sweep()).await;
    let (lamp, vase) = (lanes.product(10).await, lanes.product(1).await);
    let first = hold(&lanes, lamp, 3, Duration::from_mins(1)).await;
    let release = Demand::Release { hold_id: first.id, product_id: lamp };
    // All three are in the lane before it takes its batch.
    let batches = lanes.metrics.batch_size.get_sample_count();
    let (released, second, refused) = tokio::join!(
        lanes.admission.place(release, Details::default()),
        hold(&lanes, lamp, 3, Duration::from_mins(1)),
        place(&lanes.admission, order(&[(lamp, 1), (vase, 2)])),
    );
    assert_eq!(lanes.metrics.batch_size.get_sample_count(), batches + 1);
    assert_eq!(released, Ok(Accepted::Returned));
    assert_eq!(refused, Err(not_enough(vase, 1)));
    let status = async |id| lanes.store.hold(id).await.unwrap().map(|hold| hold.status);
    assert_eq!(status(first.id).await, Some(HoldStatus::Released));
    assert_eq!(status(second.id).await, Some(HoldStatus::Active));
    assert_eq!((lanes.stock(lamp).await, lanes.stock(vase).await), (7, 1));
}

#[tokio::test]
async fn a_product_that_is_known_to_be_sold_out_finds_its_expired_holds_all_the_same() {
    let lanes = lanes(no_sweep()).await;
    let lamp = lanes.product(3).await;
    let short = hold(&lanes, lamp, 3, Duration::from_secs(1)).await;
    lanes
        .until("it is known to be sold out", async || {
            assert_eq!(lanes.place(lamp, 1).await, Err(not_enough(lamp, 0)));
            lanes.cache.stock_hint(lamp.0).is_some()
        })
        .await;
    until_expired(&lanes, short).await;
    // Refusals from memory let one ask now and then.
    lanes.until("it is sold again", async || lanes.place(lamp, 3).await.is_ok()).await;
    assert_eq!(lanes.stock(lamp).await, 0);
}

#[tokio::test]
async fn the_sweep_brings_expired_holds_back_when_nobody_asks() {
    let settings = AdmissionSettings {
        expiry_interval: Duration::from_millis(20),
        ..AdmissionSettings::default()
    };
    let lanes = lanes(settings).await;
    let (lamp, vase) = (lanes.product(5).await, lanes.product(5).await);
    for _ in 0..3 {
        hold(&lanes, lamp, 1, Duration::from_millis(1)).await;
    }
    hold(&lanes, vase, 5, Duration::from_millis(1)).await;
    let keeps = hold(&lanes, lamp, 2, Duration::from_mins(1)).await;
    lanes
        .until("all is back", async || lanes.stock(lamp).await == 3 && lanes.stock(vase).await == 5)
        .await;
    let status = lanes.store.hold(keeps.id).await.unwrap().unwrap().status;
    assert_eq!(status, HoldStatus::Active);
    assert_eq!(lanes.metrics.holds_expired.get(), 4);
    let held: i64 = sqlx::query_scalar("SELECT sum(held)::bigint FROM products")
        .fetch_one(lanes.store.pool())
        .await
        .unwrap();
    assert_eq!(held, 2);
    place(&lanes.admission, one(lamp, 3)).await.unwrap();
}

/// Gives a product so many holds of one unit whose time is over.
async fn over_together(lanes: &Lanes, id: ProductId, holds: i64) {
    for query in [
        "UPDATE products SET held = held + $2, version = version + 1 WHERE id = $1",
        "INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
         SELECT $1, 1, 100, now() - interval '1 s' FROM generate_series(1, $2)",
    ] {
        sqlx::query(query).bind(id.0).bind(holds).execute(lanes.store.pool()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_that_end_together_come_back_in_one_round_and_orders_go_on_meanwhile() {
    let url = database().await;
    let before = lanes_on(&url, no_sweep()).await;
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
    // Its sweep looks once, when it begins, and not again for an hour.
    let lanes = lanes_on(&url, no_sweep()).await;
    let begun = std::time::Instant::now();
    lanes.place(hot, 1).await.unwrap();
    let back = lanes.metrics.holds_expired.get();
    assert!(back < holds.unsigned_abs(), "the order did not wait for all of them");
    lanes.until("all is back", async || lanes.stock(hot).await == holds + 4).await;
    for id in cold {
        lanes.until("one is back", async || lanes.stock(id).await == 1).await;
    }
    println!(
        "{holds} holds of one product, and 50 of others, were back after {:?}",
        begun.elapsed()
    );
    assert_eq!(lanes.stock(locked).await, 0, "its row is locked");
    assert_eq!(lanes.metrics.holds_expired.get(), holds.unsigned_abs() + 50);
    // Steps of at most 500 holds, the one that met the locked row, its lane, and the order.
    let batches = lanes.metrics.batch_size.get_sample_count();
    let steps = holds.unsigned_abs() / 500 + 1;
    assert!((steps..steps + 20).contains(&batches), "{batches} batches");
    drop(row);
}
