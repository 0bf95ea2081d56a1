//! The queue notices that it has lost orders.

use holdfast_queue::{Loss, Queue, QueueError};
use holdfast_sandbox::Redis;

use crate::fixture::{STREAM, command, consumer, jobs, next, queue, redis};

/// A queue with orders, some of which have been read.
async fn full() -> (Redis, Queue) {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.ensure_group().await.unwrap();
    assert_eq!(queue.loss(None).await.unwrap(), Loss::New, "nobody has filled it yet");
    assert_eq!(queue.loss(Some(1)).await.unwrap(), Loss::Before(1));
    queue.refilled(1).await.unwrap();
    queue.publish_many(&jobs(1..=100)).await.unwrap();
    let held = next(&mut consumer(&queue, "worker"), 10).await;
    queue.ack_many(&held[..5]).await.unwrap();
    assert_eq!(queue.loss(Some(2)).await.unwrap(), Loss::None);
    assert_eq!(queue.whole_depth().await.unwrap().total(), 95);
    (redis, queue)
}

/// The commands of a user of redis-cli.
async fn done(redis: &Redis, line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    command::<redis::Value>(redis, &words).await;
}

#[tokio::test]
async fn each_way_to_lose_orders_is_noticed() {
    for line in [
        "FLUSHALL",
        "FLUSHDB",
        &format!("DEL {STREAM}"),
        &format!("XGROUP DESTROY {STREAM} fulfilment"),
        &format!("XTRIM {STREAM} MAXLEN 0"),
        &format!("XTRIM {STREAM} MAXLEN 50"),
        &format!("XTRIM {STREAM} MAXLEN 89"),
        "DEL holdfast:{orders}:refill",
    ] {
        let (redis, queue) = full().await;
        done(&redis, line).await;
        let depth = queue.whole_depth().await;
        assert!(
            matches!(depth, Err(QueueError::NoGroup | QueueError::Incomplete)),
            "{line}: {depth:?}"
        );
        queue.ensure_group().await.unwrap();
        let depth = queue.whole_depth().await;
        assert!(matches!(depth, Err(QueueError::Incomplete)), "{line}: {depth:?}");
        assert_eq!(queue.loss(Some(7)).await.unwrap(), Loss::Before(7), "{line}");
        // All workers use the time of the first.
        assert_eq!(queue.loss(Some(8)).await.unwrap(), Loss::Before(7), "{line}");
        queue.publish_many(&jobs(1..=95)).await.unwrap();
        queue.refilled(7).await.unwrap();
        assert_eq!(queue.loss(Some(9)).await.unwrap(), Loss::None, "{line}");
        assert!(queue.whole_depth().await.unwrap().waiting >= 95, "{line}");
    }
}

#[tokio::test]
async fn changes_that_lose_no_order_are_not_a_loss() {
    let (redis, queue) = full().await;
    // Done entries are removed by hand, and then by a trim.
    done(&redis, &format!("XTRIM {STREAM} MAXLEN 95")).await;
    assert_eq!(queue.loss(Some(2)).await.unwrap(), Loss::None);
    queue.trim().await.unwrap();
    assert_eq!(queue.loss(Some(2)).await.unwrap(), Loss::None);
    // Everything is read and done.
    let held = next(&mut consumer(&queue, "worker"), 100).await;
    queue.ack_many(&held).await.unwrap();
    queue.trim().await.unwrap();
    assert_eq!(queue.loss(Some(2)).await.unwrap(), Loss::None);
    queue.publish_many(&jobs(101..=110)).await.unwrap();
    assert_eq!(queue.loss(Some(2)).await.unwrap(), Loss::None);
}

#[tokio::test]
async fn a_loss_while_the_queue_is_filled_is_a_new_one() {
    let (redis, queue) = full().await;
    done(&redis, "FLUSHALL").await;
    queue.ensure_group().await.unwrap();
    assert_eq!(queue.loss(Some(7)).await.unwrap(), Loss::Before(7));
    queue.publish_many(&jobs(1..=10)).await.unwrap();
    done(&redis, &format!("XTRIM {STREAM} MAXLEN 0")).await;
    // A late worker finishes its earlier refill.
    let read = consumer(&queue, "worker").next(1).await;
    assert!(read.is_ok(), "{read:?}");
    assert_eq!(queue.loss(Some(9)).await.unwrap(), Loss::Before(9));
    queue.refilled(7).await.unwrap();
    assert_eq!(queue.loss(Some(10)).await.unwrap(), Loss::Before(9), "not by the earlier filling");
}
