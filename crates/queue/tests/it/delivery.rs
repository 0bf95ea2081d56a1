use std::time::{Duration, Instant};

use holdfast_queue::Job;

use crate::fixture::{STREAM, command, consumer, ids, jobs, next, queue, raw, redis};

#[tokio::test]
async fn published_orders_are_delivered_once_in_order_with_their_context() {
    let redis = redis().await;
    let queue = queue(&redis);
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let sent = vec![
        Job { order_id: 7, trace_context: Some(context) },
        Job { order_id: 8, trace_context: None },
        Job { order_id: 9, trace_context: None },
    ];
    // Before the group exists: no entry is lost on a new Redis.
    queue.publish_many(&sent).await.unwrap();
    let (mut one, mut other) = (consumer(&queue, "one"), consumer(&queue, "other"));
    let first = next(&mut one, 2).await;
    let second = next(&mut other, 2).await;
    let got: Vec<_> = first.iter().chain(&second).map(|delivery| delivery.job.clone()).collect();
    assert_eq!(got, sent);
    assert_eq!(one.next(10).await.unwrap(), [], "delivered is delivered");
}

#[tokio::test]
async fn a_long_list_is_published_whole() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs(1..=3000)).await.unwrap();
    assert_eq!(command::<i64>(&redis, &["XLEN", STREAM]).await, 3000);
}

#[tokio::test]
async fn messages_of_a_dead_consumer_are_taken_over_and_renewed_ones_are_not() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs([1, 2, 3])).await.unwrap();
    let mut first = consumer(&queue, "first");
    let held = next(&mut first, 3).await;
    queue.ack_many(&held[..1]).await.unwrap();
    let mut heir = consumer(&queue, "heir");

    assert_eq!(heir.take_over(Duration::from_mins(1), 10).await.unwrap(), []);
    // Until the first two are idle for long enough. The last one is kept alive.
    let idle = Duration::from_secs(2);
    let taken = loop {
        queue.keep_alive("first", &held[2..]).await.unwrap();
        let taken = heir.take_over(idle, 10).await.unwrap();
        if !taken.is_empty() {
            break taken;
        }
    };
    assert_eq!(ids(&taken), [2]);
}

#[tokio::test]
async fn a_dead_consumer_is_found_after_many_live_ones() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs(1..=500)).await.unwrap();
    let alive = next(&mut consumer(&queue, "alive"), 499).await;
    next(&mut consumer(&queue, "dead"), 1).await;
    let mut heir = consumer(&queue, "heir");
    // With a capacity of one, Redis checks ten entries per step.
    let deadline = Instant::now() + Duration::from_mins(1);
    let taken = loop {
        assert!(Instant::now() < deadline, "it is never found");
        queue.keep_alive("alive", &alive).await.unwrap();
        let taken = heir.take_over(Duration::from_secs(2), 1).await.unwrap();
        if !taken.is_empty() {
            break taken;
        }
    };
    assert_eq!(ids(&taken), [500]);
}

#[tokio::test]
async fn nothing_is_read_without_free_capacity() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs([1, 2])).await.unwrap();
    let mut worker = consumer(&queue, "worker");
    next(&mut worker, 1).await;
    assert_eq!(worker.next(0).await.unwrap(), []);
    assert_eq!(worker.take_over(Duration::ZERO, 0).await.unwrap(), []);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.in_flight), (1, 1));
}

#[tokio::test]
async fn a_foreign_entry_is_not_delivered_for_ever() {
    let redis = redis().await;
    let queue = queue(&redis);
    for fields in [&["x", "1"], &["o", "no number"]] {
        command::<String>(&redis, &["XADD", STREAM, "*", fields[0], fields[1]]).await;
    }
    let binary = [0xff_u8, 0xfe];
    let mut connection = raw(&redis).await;
    let mut add = redis::cmd("XADD");
    add.arg(STREAM).arg("*").arg(&binary).arg(&binary);
    add.query_async::<String>(&mut connection).await.unwrap();
    queue.publish_many(&jobs([7])).await.unwrap();
    let mut worker = consumer(&queue, "worker");
    let held = next(&mut worker, 10).await;
    assert_eq!(ids(&held), [7]);
    assert_eq!(queue.depth().await.unwrap().total(), 1, "the others are done with");
}

#[tokio::test]
async fn a_retry_is_delivered_when_it_is_due_and_not_before() {
    let redis = redis().await;
    let queue = queue(&redis);
    let context = Some("00-trace".to_owned());
    queue.publish_many(&[Job { order_id: 5, trace_context: context.clone() }]).await.unwrap();
    let mut worker = consumer(&queue, "worker");
    let delivery = next(&mut worker, 1).await.remove(0);
    queue.retry_later(&[(delivery.clone(), Duration::from_hours(1))]).await.unwrap();
    assert_eq!(queue.promote_due(10).await.unwrap(), 0);
    assert_eq!(queue.depth().await.unwrap().later, 1);
    assert_eq!(queue.depth().await.unwrap().in_flight, 0, "it is out of the worker's hands");

    queue.retry_later(&[(delivery, Duration::ZERO)]).await.unwrap();
    assert_eq!(queue.promote_due(10).await.unwrap(), 1);
    let again = next(&mut worker, 1).await;
    assert_eq!(again[0].job, Job { order_id: 5, trace_context: context });
}

#[tokio::test]
async fn trimming_removes_only_finished_entries() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs(1..=1000)).await.unwrap();
    let mut worker = consumer(&queue, "worker");
    let held = next(&mut worker, 900).await;
    let (stuck, done) = held.split_last().unwrap();
    queue.ack_many(done).await.unwrap();
    queue.trim().await.unwrap();
    let left: i64 = command(&redis, &["XLEN", STREAM]).await;
    // One entry is in flight and 100 are not delivered; whole blocks of 100 may stay.
    assert!((101..=300).contains(&left), "{left}");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.in_flight), (100, 1));
    assert_eq!(next(&mut worker, 200).await.len(), 100);
    queue.ack_many(std::slice::from_ref(stuck)).await.unwrap();
}

#[tokio::test]
async fn trimming_keeps_up_with_fast_workers() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs(1..=25_000)).await.unwrap();
    let mut worker = consumer(&queue, "worker");
    for _ in 0..25 {
        let held = next(&mut worker, 1_000).await;
        queue.ack_many(&held).await.unwrap();
    }
    queue.trim().await.unwrap();
    let left: i64 = command(&redis, &["XLEN", STREAM]).await;
    assert!(left <= 200, "{left}");
}

#[tokio::test]
async fn consumers_without_work_are_forgotten_and_those_with_work_are_not() {
    let redis = redis().await;
    let queue = queue(&redis);
    queue.publish_many(&jobs([1, 2])).await.unwrap();
    next(&mut consumer(&queue, "busy"), 1).await;
    let done = next(&mut consumer(&queue, "gone"), 1).await;
    queue.ack_many(&done).await.unwrap();
    queue.forget_consumers(Duration::from_mins(1)).await.unwrap();
    let count = async || {
        command::<Vec<redis::Value>>(&redis, &["XINFO", "CONSUMERS", STREAM, "fulfilment"])
            .await
            .len()
    };
    assert_eq!(count().await, 2);
    while count().await > 1 {
        queue.forget_consumers(Duration::from_millis(1)).await.unwrap();
    }
    assert_eq!(queue.depth().await.unwrap().in_flight, 1);
}
