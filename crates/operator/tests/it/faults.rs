//! The HPA while Redis does not answer or answers incorrectly.

use holdfast_queue::Consumer;

use crate::{answers::publish, cluster::until, hpa::Scaled};

/// Eight orders and four workers.
async fn at_work(namespace: &'static str) -> Scaled {
    let scaled = Scaled::new(namespace).await;
    crate::answers::ready(&scaled.queue).await;
    publish(&scaled.queue, 8).await;
    scaled.until_replicas(4).await;
    scaled
}

async fn command(scaled: &Scaled, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(scaled.redis.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(holdfast_sandbox::PATIENCE))
        .set_response_timeout(Some(holdfast_sandbox::PATIENCE));
    let mut connection =
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
}

const STREAM: &str = "holdfast:{orders}:stream";

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_stopped_redis_changes_nothing_and_is_read_again_when_back() {
    let scaled = at_work("redis-gone").await;
    scaled.redis.kill9().await.unwrap();
    scaled.holds_because("is not known: Redis cannot be reached", 4).await;
    scaled.redis.restart().await.unwrap();
    // The old connection is closed, which its first use notices.
    until("Redis is back", async || crate::answers::try_ready(&scaled.queue).await.is_ok()).await;
    publish(&scaled.queue, 10).await;
    scaled.until_replicas(5).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_hung_redis_changes_nothing_and_is_read_again_afterwards() {
    let scaled = at_work("redis-hung").await;
    scaled.redis.pause().unwrap();
    scaled.holds_because("is not known: Redis did not answer in time", 4).await;
    scaled.redis.resume().unwrap();
    publish(&scaled.queue, 2).await;
    scaled.until_replicas(5).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_flushed_redis_changes_nothing_until_a_worker_creates_the_group_again() {
    let scaled = at_work("redis-flushed").await;
    scaled.redis.flush().await.unwrap();
    scaled.holds_because("is not known: its consumer group does not exist", 4).await;
    // The sweep publishes lost orders. The stream alone does not show how many are left.
    publish(&scaled.queue, 12).await;
    scaled.holds_because("is not known: its consumer group does not exist", 4).await;
    crate::answers::ready(&scaled.queue).await;
    scaled.until_replicas(6).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_queue_that_no_worker_has_ever_read_is_not_empty() {
    let scaled = Scaled::new("no-group").await;
    publish(&scaled.queue, 8).await;
    scaled.holds_because("is not known: its consumer group does not exist", 1).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_deleted_entry_and_a_null_lag_do_not_count_as_zero() {
    let scaled = at_work("null-lag").await;
    scaled.work(1).await;
    let entries = command(&scaled, &["XRANGE", STREAM, "-", "+"]).await;
    let redis::Value::Array(entries) = entries else { panic!("{entries:?}") };
    let ids: Vec<(String, redis::Value)> =
        entries.into_iter().map(|entry| redis::from_redis_value(entry).unwrap()).collect();
    // One entry in the middle of the unread ones.
    command(&scaled, &["XDEL", STREAM, &ids[4].0]).await;
    let groups = command(&scaled, &["XINFO", "GROUPS", STREAM]).await;
    let lag = format!("{groups:?}");
    assert!(
        lag.contains("bulk-string('\"lag\"'), nil"),
        "the setup did not cause a null lag: {lag}"
    );
    // Without a database, the number of orders is unknown until the workers have filled the queue again.
    scaled.holds_because("is not known: Redis has lost orders", 4).await;
    crate::answers::ready(&scaled.queue).await;
    // Six are left.
    scaled.until_replicas(3).await;
    until("the HPA counts again", async || scaled.scaling_active().await["status"] == "True").await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_stream_trimmed_by_hand_changes_nothing_until_workers_have_filled_it() {
    let scaled = at_work("trimmed").await;
    let mut consumer = Consumer::new(scaled.queue.clone(), "worker");
    let held = consumer.next(1).await.unwrap();
    scaled.queue.ack_many(&held).await.unwrap();
    // Two of the seven unread entries.
    command(&scaled, &["XTRIM", STREAM, "MAXLEN", "=", "2"]).await;
    scaled.holds_because("is not known: Redis has lost orders", 4).await;
    crate::answers::ready(&scaled.queue).await;
    scaled.until_replicas(1).await;
    publish(&scaled.queue, 4).await;
    scaled.until_replicas(3).await;
}
