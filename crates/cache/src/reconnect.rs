//! The background task that connects to Redis again after a failure: see [`crate::health`].

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep;

use crate::health::RedisPhase;
use crate::redis_connection::{RedisConnection, Unavailable};

/// Runs until dropped.
pub(crate) async fn keep_connected(redis: Arc<RedisConnection>) {
    // Before the first connection no message can have been missed, so Redis is used at once at the start.
    let mut outage = None;
    redis.identified().await;
    loop {
        match restore(&redis, outage.is_some()).await {
            Ok(()) => {
                if let Some(since) = outage.take() {
                    let seconds = Instant::now().duration_since(since).as_secs_f32();
                    tracing::info!(seconds, "redis is used again");
                }
                while redis.is_up() {
                    redis.failed.notified().await;
                }
                outage = Some(Instant::now());
            }
            Err(Unavailable) => {
                outage.get_or_insert_with(Instant::now);
            }
        }
        sleep(redis.settings.retry_interval).await;
    }
}

async fn restore(redis: &RedisConnection, quarantine: bool) -> Result<(), Unavailable> {
    redis.probe().await?;
    while !redis.repay().await? {}
    if quarantine {
        let quarantine = sleep(redis.settings.quarantine);
        tokio::pin!(quarantine);
        loop {
            tokio::select! {
                () = &mut quarantine => break,
                () = redis.failed.notified() => {
                    if redis.health.phase() == RedisPhase::Down {
                        return Err(Unavailable);
                    }
                }
            }
        }
    }
    redis.health.up().then_some(()).ok_or(Unavailable)
}
