use std::time::Duration;

use crate::fixture::{consumer, jobs, next, queue, redis};

#[tokio::test]
async fn workers_that_read_recently_are_counted() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.ensure_group().await.unwrap();
    let within = Duration::from_mins(1);
    assert_eq!(queue.workers_seen(within).await.unwrap(), 0);
    queue.publish_many(&jobs(1..=2)).await.unwrap();
    next(&mut consumer(&queue, "one"), 1).await;
    next(&mut consumer(&queue, "two"), 1).await;
    assert_eq!(queue.workers_seen(within).await.unwrap(), 2);
    // The passing of time is the subject.
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(queue.workers_seen(Duration::from_millis(10)).await.unwrap(), 0);
}

/// Redis 7.0, which Debian 12 has, notes only reads that deliver something.
#[tokio::test]
async fn a_worker_that_waits_for_orders_is_counted() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.ensure_group().await.unwrap();
    queue.publish_many(&jobs(1..=1)).await.unwrap();
    let mut worker = consumer(&queue, "one");
    next(&mut worker, 1).await;
    // The passing of time is the subject.
    let delivered = Duration::from_millis(500);
    tokio::time::sleep(delivered).await;
    let waits = std::time::Instant::now();
    assert_eq!(worker.next(1).await.unwrap().len(), 0);
    // Not since the delivery, also if the machine is busy.
    let within = waits.elapsed() + delivered / 2;
    assert_eq!(queue.workers_seen(within).await.unwrap(), 1);
}

#[tokio::test]
async fn the_number_of_workers_is_unknown_without_a_group() {
    let redis = redis().await;
    queue(&redis).workers_seen(Duration::from_mins(1)).await.unwrap_err();
}
