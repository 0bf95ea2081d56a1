use std::time::Duration;

use holdfast_queue::{Consumer, Delivery, Job, Queue, QueueSettings};
use holdfast_sandbox::{PATIENCE, Redis, RedisOptions};

pub const STREAM: &str = "holdfast:{orders}:stream";

pub async fn redis() -> Redis {
    Redis::start(RedisOptions::default()).await.unwrap()
}

/// On a busy machine, calls may take longer than in production.
pub fn queue(redis: &Redis) -> Queue {
    queue_within(redis, Duration::from_secs(20))
}

/// For a Redis that does not answer.
pub fn hasty_queue(redis: &Redis) -> Queue {
    queue_within(redis, Duration::from_secs(1))
}

fn queue_within(redis: &Redis, op_timeout: Duration) -> Queue {
    let settings = QueueSettings {
        op_timeout,
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

/// A separate connection, which waits for each answer for as long as a test.
pub async fn raw(redis: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// A command, like a user of redis-cli would send it.
pub async fn command<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let mut connection = raw(redis).await;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}
