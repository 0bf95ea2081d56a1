//! Another server becomes the primary.

use std::time::Duration;

use holdfast_queue::{Consumer, Loss, Queue, QueueError, QueueSettings};
use holdfast_sandbox::{RedisCluster, RedisSentinels, until};

use crate::fixture::{STREAM, ids, jobs};

fn queue(url: String) -> Queue {
    // On a busy machine, calls may take longer than in production.
    let (block, op_timeout) = (Duration::from_millis(200), Duration::from_secs(5));
    Queue::connect(QueueSettings { block, op_timeout, ..QueueSettings::new(url) }).unwrap()
}

/// Records a loss and then its repair, as workers do after they have published all orders again.
async fn fill(queue: &Queue, at: i64) {
    assert_eq!(queue.loss(None).await.unwrap(), Loss::New);
    assert_eq!(queue.loss(Some(at)).await.unwrap(), Loss::Before(at));
    assert!(matches!(queue.whole_depth().await, Err(QueueError::Incomplete)));
    queue.refilled(at).await.unwrap();
    assert_eq!(queue.loss(None).await.unwrap(), Loss::None);
}

/// Without this, the orders that the new primary has would look like a short queue.
#[tokio::test]
async fn a_depth_is_unknown_while_the_new_primary_may_lack_orders() {
    let group = RedisSentinels::start(&[], "").await.unwrap();
    group.until_complete("").await;
    let queue = queue(group.url());
    queue.ensure_group().await.unwrap();
    fill(&queue, 1).await;
    queue.publish_many(&jobs(1..=10)).await.unwrap();
    assert_eq!(queue.whole_depth().await.unwrap().total(), 10);
    let [first, replicas @ ..] = group.servers() else { panic!("no server") };
    for replica in replicas {
        until("the replicas have the orders", async || {
            replica.command(&format!("XLEN {STREAM}")).await.is_ok_and(|it| it.contains(":10"))
        })
        .await;
        replica.pause().unwrap();
    }
    // The replicas must not receive the next orders, not even from connection buffers.
    first.command("CLIENT KILL TYPE replica").await.unwrap();
    queue.publish_many(&jobs(11..=20)).await.unwrap();
    first.kill9().await.unwrap();
    for replica in replicas {
        replica.resume().unwrap();
    }
    let depth = until("the new primary answers", async || {
        queue.depth().await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(depth.total(), 10);
    assert!(matches!(queue.whole_depth().await, Err(QueueError::Incomplete)));
    fill(&queue, 2).await;
    queue.publish_many(&jobs(11..=20)).await.unwrap();
    assert_eq!(queue.whole_depth().await.unwrap().total(), 20);
}

#[tokio::test]
async fn a_consumer_reads_from_the_new_primary_and_reports_that_it_is_new() {
    let group = RedisSentinels::start(&[], "").await.unwrap();
    group.until_complete("").await;
    let queue = queue(group.url());
    let mut consumer = Consumer::new(queue.clone(), "a");
    queue.ensure_group().await.unwrap();
    queue.publish_many(&jobs([1])).await.unwrap();
    assert_eq!(ids(&consumer.next(10).await.unwrap()), [1]);
    assert!(!consumer.redis_is_new());
    group.fail_over().await.unwrap();
    until("the consumer notices it", async || {
        let _ = consumer.next(10).await;
        consumer.redis_is_new()
    })
    .await;
    until("an order is published", async || {
        queue.publish_many(&jobs([2])).await.map_err(|error| error.to_string())
    })
    .await;
    until("the order is delivered", async || {
        consumer.next(10).await.is_ok_and(|deliveries| ids(&deliveries).contains(&2))
    })
    .await;
}

/// The keys are in one slot, and each script and pipeline stays in it.
#[tokio::test]
async fn each_call_works_in_a_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    let queue = queue(cluster.url());
    let mut consumer = Consumer::new(queue.clone(), "a");
    queue.ensure_group().await.unwrap();
    fill(&queue, 1).await;
    queue.publish_many(&jobs(1..=20)).await.unwrap();
    let deliveries = consumer.next(20).await.unwrap();
    assert_eq!(ids(&deliveries), (1..=20).collect::<Vec<_>>());
    let (aside, done) = deliveries.split_at(5);
    let aside: Vec<_> = aside.iter().map(|it| (it.clone(), Duration::ZERO)).collect();
    queue.retry_later(&aside).await.unwrap();
    queue.ack_many(done).await.unwrap();
    assert_eq!(queue.promote_due(10).await.unwrap(), 5);
    queue.trim().await.unwrap();
    assert_eq!(queue.whole_depth().await.unwrap().total(), 5);
    assert!(!queue.mend().await.unwrap());
    assert_eq!(queue.workers_seen(Duration::from_mins(1)).await.unwrap(), 1);
    queue.oldest_waiting().await.unwrap().unwrap();
    queue.forget_consumers(Duration::from_mins(1)).await.unwrap();
    assert!(consumer.take_over(Duration::from_mins(1), 10).await.unwrap().is_empty());
}
