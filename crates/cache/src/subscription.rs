//! The subscription to other replicas' changes, and the proof that it works.
//!
//! With every tick, this replica publishes the time on its own channel over the connection for
//! commands, and receives it over the subscription. Redis delivers messages to a subscriber in the
//! order in which they were published. So a tick that has arrived proves that everything published
//! before it has arrived, too. An answer to PING does not prove that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use holdfast_redis::Subscription;
use redis::aio::PubSubStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::entry::Entry;
use crate::l1::L1;
use crate::l2;
use crate::message::{self, ChangeMessage};
use crate::redis_connection::RedisConnection;

/// A subscription without a tick for this many times `armed_for` is closed.
const SILENCE: u32 = 3;

/// Publishes ticks until dropped.
pub(crate) async fn tick<E: Entry>(redis: Arc<RedisConnection>, l1: Arc<L1<E>>) {
    let channel = l2::ticks(&redis.replica);
    let mut ticks = interval(redis.settings.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent = l1.millis(Instant::now()).to_string();
        // A failure is counted and handled by the connection; the missing tick disarms.
        let _ = redis.tick(&channel, &sent).await;
    }
}

/// Listens until dropped.
pub(crate) async fn listen<E: Entry>(redis: Arc<RedisConnection>, l1: Arc<L1<E>>) {
    let mut pause = redis.settings.retry_interval;
    loop {
        match timeout(redis.settings.connect_timeout, subscribe(&redis)).await {
            Ok(Ok(Subscription { sink, stream, address })) => {
                pause = redis.settings.retry_interval;
                l1.disarm();
                tokio::select! {
                    () = hear(&redis, &l1, stream) => {}
                    () = redis.servers().replaced(&address) => {}
                }
                drop(sink);
                l1.disarm();
                tracing::info!("the subscription to product changes has ended; reconnecting");
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot subscribe to product changes"),
            Err(_) => tracing::debug!("redis did not answer a subscription in time"),
        }
        sleep(pause.mul_f32(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn subscribe(redis: &RedisConnection) -> redis::RedisResult<Subscription> {
    redis.servers().subscribe(&[l2::CHANGES.to_owned(), l2::ticks(&redis.replica)]).await
}

/// Returns when the subscription has ended or can no longer be trusted.
async fn hear<E: Entry>(redis: &RedisConnection, l1: &L1<E>, mut stream: PubSubStream) {
    let silence = (redis.settings.armed_for * SILENCE).max(redis.settings.connect_timeout);
    let mut heard = Instant::now();
    loop {
        match timeout(silence, stream.next()).await {
            Ok(Some(message)) if message.get_channel_name() == l2::CHANGES => {
                apply(redis, l1, message.get_payload_bytes());
            }
            Ok(Some(message)) => {
                let text = std::str::from_utf8(message.get_payload_bytes()).ok();
                if let Some(sent) = text.and_then(|text| text.parse().ok()) {
                    heard = Instant::now();
                    l1.arm(sent, redis.settings.armed_for);
                }
            }
            Ok(None) => return,
            Err(_) => {}
        }
        if heard.elapsed() > silence {
            if redis.is_up() {
                return;
            }
            // Redis itself is down; the subscription may work again when Redis does.
            heard = Instant::now();
        }
    }
}

fn apply<E: Entry>(redis: &RedisConnection, l1: &L1<E>, payload: &[u8]) {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    let (sender, message) = message::parse(text);
    if sender == redis.replica {
        // This replica applied the change before it sent the message.
        return;
    }
    redis.metrics.peer_changes.inc();
    match message {
        Some(ChangeMessage::Fence(items)) => {
            for (id, version) in items {
                l1.raise(id, version);
            }
        }
        Some(ChangeMessage::Drop(items)) => {
            for (id, version) in items {
                l1.change(id, version);
            }
        }
        Some(ChangeMessage::Stock(changes)) => {
            for change in &changes {
                l1.restock_known(change);
            }
        }
        Some(ChangeMessage::Flush) => l1.reset(),
        None => {
            tracing::warn!("received a message from another release; the memory is emptied");
            l1.reset();
        }
    }
}
