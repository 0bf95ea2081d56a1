//! Hearing of other replicas' changes, and proving that we do hear.
//!
//! Every tick this replica publishes the time on a channel of its own, over the connection for
//! commands, and gets it back over the subscription. Redis delivers to one subscriber in the order
//! in which it ran the commands, so a tick that has arrived proves that everything published before
//! it was sent has arrived too; that is more than an answer to PING on either connection proves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::entry::Entry;
use crate::l1::L1;
use crate::l2;
use crate::message::{self, Message};
use crate::redis_connection::RedisConnection;

/// A subscription on which no tick has come back for this many times the arming, though ticks were
/// sent, is given up.
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
            Ok(Ok((sink, stream))) => {
                pause = redis.settings.retry_interval;
                l1.disarm();
                hear(&redis, &l1, stream).await;
                drop(sink);
                l1.disarm();
                tracing::info!("the subscription to product changes has ended; connecting again");
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot subscribe to product changes"),
            Err(_) => tracing::debug!("redis does not answer to a subscription"),
        }
        sleep(pause.mul_f32(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn subscribe(redis: &RedisConnection) -> redis::RedisResult<(PubSubSink, PubSubStream)> {
    let (mut sink, stream) = redis.client().get_async_pubsub().await?.split();
    sink.subscribe(&[l2::CHANGES.to_owned(), l2::ticks(&redis.replica)]).await?;
    Ok((sink, stream))
}

/// Returns when the subscription has ended or is not to be trusted any more.
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
            // Redis itself is away; the connection may yet come back to life with it.
            heard = Instant::now();
        }
    }
}

fn apply<E: Entry>(redis: &RedisConnection, l1: &L1<E>, payload: &[u8]) {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    let (sender, message) = message::parse(text);
    if sender == redis.replica {
        // Done before it was sent.
        return;
    }
    redis.metrics.peer_changes.inc();
    match message {
        Some(Message::Fence(items)) => {
            for (id, version) in items {
                l1.raise(id, version);
            }
        }
        Some(Message::Drop(items)) => {
            for (id, version) in items {
                l1.change(id, version);
            }
        }
        Some(Message::Stock(changes)) => {
            for change in &changes {
                l1.restock_known(change);
            }
        }
        Some(Message::Flush) => l1.reset(),
        None => {
            tracing::warn!("a message of another release: everything in memory is forgotten");
            l1.reset();
        }
    }
}
