use std::time::{Duration, Instant};

use holdfast_queue::{Consumer, Delivery, Queue, QueueError, QueueSettings};
use holdfast_sandbox::{PATIENCE, Redis};
use tokio::task::JoinHandle;

use crate::fixture::{command, consumer, hasty_queue, ids, jobs, next, queue, redis};

#[tokio::test]
async fn a_flush_loses_the_entries_but_not_the_queue() {
    let redis = redis().await;
    let queue = queue(&redis);
    let mut worker = consumer(&queue, "worker");
    queue.publish_many(&jobs([1])).await.unwrap();
    let held = next(&mut worker, 1).await;
    command::<()>(&redis, &["FLUSHALL"]).await;
    // Entries in flight are lost; acknowledging them is not an error.
    queue.ack_many(&held).await.unwrap();
    queue.publish_many(&jobs([2])).await.unwrap();
    assert_eq!(ids(&next(&mut worker, 1).await), [2]);
}

/// Starts a read that blocks for long. Returns when it blocks.
async fn blocked(
    redis: &Redis,
) -> (Queue, JoinHandle<(Result<Vec<Delivery>, QueueError>, Consumer)>) {
    let settings =
        QueueSettings { block: Duration::from_mins(1), ..QueueSettings::new(redis.url()) };
    let queue = Queue::connect(settings).unwrap();
    queue.ensure_group().await.unwrap();
    let mut worker = consumer(&queue, "worker");
    let read = tokio::spawn(async move { (worker.next(1).await, worker) });
    let deadline = Instant::now() + PATIENCE;
    while !command::<String>(redis, &["INFO", "clients"]).await.contains("blocked_clients:1") {
        assert!(Instant::now() < deadline, "it does not block");
    }
    (queue, read)
}

#[tokio::test]
async fn a_flush_under_a_blocked_read_creates_the_group_again() {
    let redis = redis().await;
    let (queue, read) = blocked(&redis).await;
    redis.flush().await.unwrap();
    let (found, mut worker) = tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(found.unwrap(), [], "an emptied Redis is no fault");
    queue.publish_many(&jobs([1])).await.unwrap();
    assert_eq!(ids(&next(&mut worker, 1).await), [1]);
}

#[tokio::test]
async fn a_restart_under_a_blocked_read_ends_it_at_once() {
    let redis = redis().await;
    let (queue, read) = blocked(&redis).await;
    redis.kill9().await.unwrap();
    let (found, mut worker) = tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    found.unwrap_err();
    redis.restart().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while queue.publish_many(&jobs([1])).await.is_err() {
        assert!(Instant::now() < deadline, "the queue does not come back");
    }
    assert_eq!(ids(&next(&mut worker, 1).await), [1]);
}

#[tokio::test]
async fn a_reader_survives_a_restart_of_redis() {
    let redis = redis().await;
    let queue = queue(&redis);
    let mut worker = consumer(&queue, "worker");
    assert_eq!(worker.next(1).await.unwrap(), []);
    redis.restart().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while queue.publish_many(&jobs([1])).await.is_err() {
        assert!(Instant::now() < deadline, "the queue does not come back");
    }
    loop {
        assert!(Instant::now() < deadline, "the reader does not come back");
        // The first read may find the closed connection.
        if let Ok(found) = worker.next(1).await
            && !found.is_empty()
        {
            assert_eq!(ids(&found), [1]);
            break;
        }
    }
}

#[tokio::test]
async fn a_hung_redis_costs_each_call_its_timeout_and_no_more() {
    let redis = redis().await;
    let queue = hasty_queue(&redis);
    let mut worker = consumer(&queue, "worker");
    assert_eq!(worker.next(1).await.unwrap(), []);
    redis.pause().unwrap();
    let begun = Instant::now();
    queue.publish_many(&jobs([1])).await.unwrap_err();
    worker.next(1).await.unwrap_err();
    let took = begun.elapsed();
    redis.resume().unwrap();
    // 1 s for the call, 0.2 s + 1 s for the read, and some time for a slow machine.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_redis_that_is_down_causes_an_error_in_time() {
    let redis = redis().await;
    let queue = hasty_queue(&redis);
    let mut worker = consumer(&queue, "worker");
    redis.kill9().await.unwrap();
    let begun = Instant::now();
    queue.publish_many(&jobs([1])).await.unwrap_err();
    worker.next(1).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
}
