use std::time::Duration;

use holdfast_queue::{Consumer, Delivery, Job, Queue, QueueSettings};
use holdfast_sandbox::{Redis, RedisOptions};

pub const STREAM: &str = "holdfast:{orders}:stream";

pub async fn redis() -> Redis {
    Redis::start(RedisOptions::default()).await.unwrap()
}

pub fn queue(redis: &Redis) -> Queue {
    let settings = QueueSettings {
        op_timeout: Duration::from_millis(500),
        block: Duration::from_millis(200),
        ..QueueSettings::new(redis.url())
    };
    Queue::connect(settings).unwrap()
}

pub fn consumer(queue: &Queue, name: &str) -> Consumer {
    Consumer::new(queue.clone(), name)
}

pub fn jobs(ids: impl IntoIterator<Item = i64>) -> Vec<Job> {
    ids.into_iter().map(|order_id| Job { order_id, trace_context: None }).collect()
}

pub fn ids(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.job.order_id).collect()
}

/// Reads until there are orders.
pub async fn next(consumer: &mut Consumer, max: usize) -> Vec<Delivery> {
    for _ in 0..50 {
        let deliveries = consumer.next(max).await.unwrap();
        if !deliveries.is_empty() {
            return deliveries;
        }
    }
    panic!("nothing was delivered");
}

/// A command, like a user of redis-cli would send it.
pub async fn command<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}
