//! Other programs that write to the queue's keys.

use std::time::{Duration, Instant};

use holdfast_sandbox::PATIENCE;

use crate::fixture::{STREAM, command, consumer, ids, jobs, queue, redis};

const RETRIES: &str = "holdfast:{orders}:retries";
const REFILL: &str = "holdfast:{orders}:refill";
/// The largest possible id of an entry.
const LAST: &str = "18446744073709551615-18446744073709551615";

/// The commands of another program, one per line.
const POISON: &[(&str, &str)] = &[
    ("a string", "DEL {S}; SET {S} x"),
    ("a list", "DEL {S}; RPUSH {S} x"),
    ("a hash", "DEL {S}; HSET {S} o 1"),
    ("a set", "DEL {S}; SADD {S} x"),
    ("a sorted set", "DEL {S}; ZADD {S} 1 x"),
    ("no stream", "DEL {S}"),
    ("the last id", "XADD {S} {L} o 1"),
    ("an id just before the last", "XADD {S} 18446744073709551615-1 o 1"),
    ("the last id, set", "XSETID {S} {L}"),
    ("an id of next year", "XADD {S} 4102444800000-0 o 1"),
    ("no group", "XGROUP DESTROY {S} fulfilment"),
    ("no group and the last id", "XGROUP DESTROY {S} fulfilment; XADD {S} {L} o 1"),
    ("a group at the last id", "XGROUP SETID {S} fulfilment {L}"),
    ("a group ahead", "XGROUP SETID {S} fulfilment 4102444800000-0"),
    ("a group behind", "XGROUP SETID {S} fulfilment 0"),
    ("deleted entries in flight", "XTRIM {S} MAXLEN 0"),
    ("entries without an order", "XADD {S} * a b; XADD {S} * o x; XADD {S} * o -"),
    ("retries in a string", "DEL {R}; SET {R} x"),
    ("retries in a stream", "DEL {R}; XADD {R} * a b"),
    ("a record of losses in a list", "DEL {F}; RPUSH {F} x"),
    ("a record of losses without a time", "SET {F} x"),
    ("retries without an order", "ZADD {R} 1 x 1 99999999999999999999999 +inf 7"),
];

#[tokio::test]
async fn the_queue_survives_foreign_writes_to_its_keys() {
    for (name, commands) in POISON {
        let redis = redis().await;
        let queue = queue(&redis);
        let mut worker = consumer(&queue, "worker");
        queue.ensure_group().await.unwrap();
        queue.publish_many(&jobs([1, 2])).await.unwrap();
        let held = crate::fixture::next(&mut worker, 1).await;
        for line in commands.split(';') {
            let line = line.replace("{S}", STREAM).replace("{R}", RETRIES);
            let line = line.replace("{F}", REFILL).replace("{L}", LAST);
            let words: Vec<_> = line.split_whitespace().collect();
            command::<redis::Value>(&redis, &words).await;
        }
        // Like a publisher and a worker: they retry after a failure, and a sweep runs.
        let deadline = Instant::now() + PATIENCE;
        let (mut found, mut retried) = (false, false);
        while !(found && retried) {
            assert!(Instant::now() < deadline, "{name}: {found} {retried}");
            let _ = queue.mend().await;
            let _ = queue.publish_many(&jobs([7])).await;
            if let Ok(deliveries) = worker.next(10).await {
                found |= ids(&deliveries).contains(&7);
                let _ = queue.ack_many(&deliveries).await;
            }
            let later: Vec<_> = held.iter().map(|it| (it.clone(), Duration::ZERO)).collect();
            retried |=
                queue.retry_later(&later).await.is_ok() && queue.promote_due(10).await.is_ok();
        }
        // All other calls succeed as well.
        queue.ensure_group().await.unwrap();
        queue.loss(Some(5)).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        queue.refilled(5).await.unwrap();
        queue.whole_depth().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        queue.oldest_waiting().await.unwrap();
        queue.trim().await.unwrap();
        queue.forget_consumers(Duration::ZERO).await.unwrap();
        worker.take_over(Duration::ZERO, 10).await.unwrap();
        queue.keep_alive("worker", &held).await.unwrap();
        assert!(!queue.mend().await.unwrap(), "{name}: it is whole again");
    }
}

#[tokio::test]
async fn a_publisher_alone_repairs_a_key_that_it_cannot_write_to() {
    for line in [format!("SET {STREAM} x"), format!("XADD {STREAM} {LAST} o 1")] {
        let redis = redis().await;
        let words: Vec<_> = line.split_whitespace().collect();
        command::<redis::Value>(&redis, &words).await;
        let queue = queue(&redis);
        queue.publish_many(&jobs([7])).await.unwrap();
        assert_eq!(command::<i64>(&redis, &["XLEN", STREAM]).await, 1, "{line}");
    }
}
