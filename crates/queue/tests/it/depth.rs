use std::{collections::HashMap, time::Duration};

use holdfast_queue::{Depth, QueueError};
use holdfast_sandbox::Redis;

use crate::fixture::{STREAM, command, consumer, hasty_queue, jobs, next, queue, redis};

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
    assert_eq!(depth, Depth { waiting: 6, in_flight: 2, later: 1 });
    assert_eq!(depth.total(), 9);
}

/// Redis's own count of unread entries.
async fn lag(redis: &Redis) -> redis::Value {
    let mut groups: Vec<HashMap<String, redis::Value>> =
        command(redis, &["XINFO", "GROUPS", STREAM]).await;
    groups[0].remove("lag").unwrap()
}

async fn entry_ids(redis: &Redis) -> Vec<String> {
    let entries: Vec<(String, Vec<(String, String)>)> =
        command(redis, &["XRANGE", STREAM, "-", "+"]).await;
    entries.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn depth_is_counted_if_redis_does_not_know_it() {
    // Few entries before the last delivered one, few after it, and many on both sides.
    for (all, read) in [(4000, 500), (4000, 3500), (6000, 2500)] {
        let redis = redis().await;
        let queue = queue(&redis);
        queue.publish_many(&jobs(1..=all)).await.unwrap();
        let held = next(&mut consumer(&queue, "worker"), read).await;
        assert_eq!(held.len(), read);
        queue.ack_many(&held).await.unwrap();
        let waiting = u64::try_from(all).unwrap() - read as u64;
        assert_eq!(queue.depth().await.unwrap().waiting, waiting, "{read} of {all}");
        let middle = &entry_ids(&redis).await[read + 200];
        command::<i64>(&redis, &["XDEL", STREAM, middle]).await;
        assert_eq!(lag(&redis).await, redis::Value::Nil, "the setup did not cause a wrong lag");
        assert_eq!(queue.depth().await.unwrap().waiting, waiting - 1, "{read} of {all}");
    }
}

#[tokio::test]
async fn depth_is_correct_if_redis_counts_wrong() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs(1..=5)).await.unwrap();
    let mut worker = consumer(&queue, "worker");
    let held = next(&mut worker, 1).await;
    queue.ack_many(&held).await.unwrap();
    // A user removes unread entries with redis-cli.
    command::<i64>(&redis, &["XTRIM", STREAM, "MAXLEN", "2"]).await;
    assert_ne!(lag(&redis).await, redis::Value::Int(2), "the setup did not cause a wrong lag");
    assert_eq!(queue.depth().await.unwrap().waiting, 2);
    let held = next(&mut worker, 10).await;
    queue.ack_many(&held).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().total(), 0, "an empty queue does not look full");
}

#[tokio::test]
async fn an_unknown_depth_is_an_error_and_never_zero() {
    let redis = redis().await;
    let queue = queue(&redis);
    assert!(matches!(queue.depth().await, Err(QueueError::NoGroup)));
    // The stream alone is not enough.
    queue.publish_many(&jobs([1])).await.unwrap();
    assert!(matches!(queue.depth().await, Err(QueueError::NoGroup)));
    redis.pause().unwrap();
    let hung = hasty_queue(&redis).depth().await;
    redis.resume().unwrap();
    assert!(matches!(hung, Err(QueueError::Timeout | QueueError::Redis(_))), "{hung:?}");
}
