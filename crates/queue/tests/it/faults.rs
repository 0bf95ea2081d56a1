use std::time::{Duration, Instant};

use crate::fixture::{command, consumer, ids, jobs, next, queue, redis};

#[tokio::test]
async fn a_flush_costs_the_entries_and_not_the_queue() {
    let redis = redis().await;
    let queue = queue(&redis);
    let mut worker = consumer(&queue, "worker");
    queue.publish_many(&jobs([1])).await.unwrap();
    let held = next(&mut worker, 1).await;
    command::<()>(&redis, &["FLUSHALL"]).await;
    // What was in hand is gone; saying so twice is no error.
    queue.ack_many(&held).await.unwrap();
    queue.publish_many(&jobs([2])).await.unwrap();
    assert_eq!(ids(&next(&mut worker, 1).await), [2]);
}

#[tokio::test]
async fn a_reader_survives_a_restart_of_redis() {
    let redis = redis().await;
    let queue = queue(&redis);
    let mut worker = consumer(&queue, "worker");
    assert_eq!(worker.next(1).await.unwrap(), []);
    redis.restart().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while queue.publish_many(&jobs([1])).await.is_err() {
        assert!(Instant::now() < deadline, "the queue does not come back");
    }
    loop {
        assert!(Instant::now() < deadline, "the reader does not come back");
        // The first read may find the dead connection.
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
    let queue = queue(&redis);
    let mut worker = consumer(&queue, "worker");
    assert_eq!(worker.next(1).await.unwrap(), []);
    redis.pause().unwrap();
    let begun = Instant::now();
    queue.publish_many(&jobs([1])).await.unwrap_err();
    worker.next(1).await.unwrap_err();
    let took = begun.elapsed();
    redis.resume().unwrap();
    // 0.5 s for the call, 0.2 s + 0.5 s for the read, and room for a slow machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_in_time() {
    let redis = redis().await;
    let queue = queue(&redis);
    let mut worker = consumer(&queue, "worker");
    redis.kill9().await.unwrap();
    let begun = Instant::now();
    queue.publish_many(&jobs([1])).await.unwrap_err();
    worker.next(1).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5));
}
