//! The queue is lost in different ways, and workers fill it again immediately: no order has been pending long enough
//! for the sweep.

use std::time::Duration;

use holdfast_queue::Loss;
use holdfast_store::fulfilment::AttemptResult;
use holdfast_worker::{Simulated, WorkerSettings};

use crate::fixture::{WorkerFixture, quick, until};

const STREAM: &str = "holdfast:{orders}:stream";
const HOUR: Duration = Duration::from_hours(1);

/// The fault of Redis.
async fn lose(shop: &WorkerFixture, how: &str) {
    if how == "restart" {
        shop.redis.kill9().await.unwrap();
        return shop.redis.restart().await.unwrap();
    }
    let answer = shop.redis.command(how).await.unwrap();
    assert!(!answer.starts_with('-'), "{how}: {answer}");
}

#[tokio::test]
async fn a_lost_queue_is_filled_at_once_and_each_order_once() {
    for how in [
        "FLUSHALL",
        "restart",
        &format!("DEL {STREAM}"),
        &format!("XTRIM {STREAM} MAXLEN 0"),
        &format!("XTRIM {STREAM} MAXLEN 700"),
    ] {
        let shop = WorkerFixture::open().await;
        let ids = shop.orders(2000).await;
        // Some wait for their next attempt.
        let aside = &ids[..20];
        shop.store.claim(aside, HOUR).await.unwrap();
        let retry = || AttemptResult::Retry(Duration::from_mins(30), "busy".to_owned());
        let ended: Vec<_> = aside.iter().map(|id| (*id, 1, retry()).into()).collect();
        shop.store.finish(&ended).await.unwrap();
        // The workers keep the orders in flight.
        let settings =
            WorkerSettings { lease: HOUR, retry_max: HOUR, sweep_after: HOUR, ..quick() };
        let endless = Simulated { duration: HOUR, fail_percent: 0 };
        let _workers = [shop.worker(settings, endless), shop.worker(settings, endless)];
        let whole = async || {
            let depth = shop.queue.whole_depth().await.map_err(|error| error.to_string())?;
            let pending = u64::try_from(shop.count("pending").await).unwrap();
            // Trimming left some of them.
            let twice = if how.ends_with("700") { 700 } else { 0 };
            let has = depth.waiting + depth.later;
            if depth.later != 20 || !(pending..=pending + twice).contains(&has) {
                return Err(format!("{depth:?} of {pending} pending"));
            }
            Ok(())
        };
        shop.until("processing", 128).await;
        until(&format!("the new queue is filled before {how}"), whole).await;
        lose(&shop, how).await;
        until(&format!("the queue is filled after {how}"), whole).await;
        assert_eq!(shop.queue.loss(None).await.unwrap(), Loss::None, "{how}");
        assert_eq!(shop.count("pending").await, 1872, "{how}");
    }
}

#[tokio::test]
async fn a_lost_group_delivers_all_orders_again() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(300).await;
    shop.publish(&ids).await;
    let slow = Simulated { duration: Duration::from_millis(20), fail_percent: 0 };
    let _worker = shop.worker(WorkerSettings { sweep_after: HOUR, ..quick() }, slow);
    until("some orders are completed", async || shop.count("completed").await > 50).await;
    lose(&shop, &format!("XGROUP DESTROY {STREAM} fulfilment")).await;
    shop.until("completed", 300).await;
}

#[tokio::test]
async fn orders_are_completed_after_another_program_has_written_to_the_queues_keys() {
    const LAST: &str = "18446744073709551615-18446744073709551615";
    let shop = WorkerFixture::open().await;
    let fast = Simulated { duration: Duration::ZERO, fail_percent: 0 };
    let _worker = shop.worker(WorkerSettings { sweep_after: HOUR, ..quick() }, fast);
    let mut all = 0;
    let replace = |by: &str| format!("EVAL \"redis.call('DEL', KEYS[1]); {by}\" 1 {STREAM}");
    for poison in [
        format!("SET {STREAM} x"),
        replace("redis.call('RPUSH', KEYS[1], 'x')"),
        replace("redis.call('HSET', KEYS[1], 'a', 'b')"),
        format!("XADD {STREAM} {LAST} a b"),
        format!("XGROUP SETID {STREAM} fulfilment {LAST}"),
        "SET holdfast:{orders}:retries x".to_owned(),
        "SET holdfast:{orders}:refill x".to_owned(),
    ] {
        // Only a refill publishes these.
        all += i64::try_from(shop.orders(30).await.len()).unwrap();
        lose(&shop, &poison).await;
        until(&format!("orders are completed after {poison}"), async || {
            shop.count("completed").await == all
        })
        .await;
    }
}
