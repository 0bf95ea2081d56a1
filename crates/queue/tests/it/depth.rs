use std::time::Duration;

use holdfast_queue::{Depth, QueueError};

use crate::fixture::{STREAM, command, consumer, jobs, next, queue, redis};

#[tokio::test]
async fn depth_counts_each_state() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.ensure_group().await.unwrap();
    assert_eq!(queue.depth().await.unwrap().total(), 0);
    queue.publish_many(&jobs(1..=10)).await.unwrap();
    let held = next(&mut consumer(&queue, "worker"), 4).await;
    queue.ack_many(&held[..1]).await.unwrap();
    queue.retry_later(&[(held[1].clone(), Duration::from_mins(1))]).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!(depth, Depth { waiting: 6, in_hand: 2, later: 1 });
    assert_eq!(depth.total(), 9);
}

#[tokio::test]
async fn depth_is_counted_where_redis_has_lost_count() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs(1..=2500)).await.unwrap();
    let held = next(&mut consumer(&queue, "worker"), 1200).await;
    queue.ack_many(&held).await.unwrap();
    let entries: Vec<(String, Vec<(String, String)>)> =
        command(&redis, &["XRANGE", STREAM, "-", "+"]).await;
    command::<i64>(&redis, &["XDEL", STREAM, &entries[2000].0]).await;
    let groups: Vec<std::collections::HashMap<String, redis::Value>> =
        command(&redis, &["XINFO", "GROUPS", STREAM]).await;
    assert_eq!(groups[0]["lag"], redis::Value::Nil, "the case is not the one to be tested");
    assert_eq!(queue.depth().await.unwrap().waiting, 1299);
}

#[tokio::test]
async fn an_unknown_depth_is_an_error_and_never_nothing() {
    let redis = redis().await;
    let queue = queue(&redis);
    assert!(matches!(queue.depth().await, Err(QueueError::NoGroup)));
    // The stream alone does not do.
    queue.publish_many(&jobs([1])).await.unwrap();
    assert!(matches!(queue.depth().await, Err(QueueError::NoGroup)));
    redis.pause().unwrap();
    let hung = queue.depth().await;
    redis.resume().unwrap();
    assert!(matches!(hung, Err(QueueError::Timeout | QueueError::Redis(_))), "{hung:?}");
}
