//! The writer: sends fills and committed changes to Redis, so that no caller waits for Redis.
//!
//! One task sends all waiting messages in one round trip. The queue is bounded, and messages that do not fit are dropped:
//! the next reader repeats a lost fill, and the fence that preceded a lost change already keeps old values out.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::entry::StockChange;
use crate::message::{self, MESSAGE_ITEMS};
use crate::redis_connection::RedisConnection;

/// The most messages that wait.
pub(crate) const QUEUE: usize = 4_096;
/// The most messages of one round trip.
const TRIP: usize = 256;

/// What is sent to Redis.
pub(crate) enum WriterMessage {
    Fill(redis::Cmd),
    Stock(Vec<StockChange>),
    Drop(Vec<(i64, i64)>),
}

/// Sends messages until `stop`, and then those that still wait.
pub(crate) async fn write(
    redis: Arc<RedisConnection>,
    mut messages: mpsc::Receiver<WriterMessage>,
    stop: CancellationToken,
) {
    let mut trip = Vec::with_capacity(TRIP);
    loop {
        tokio::select! {
            biased;
            received = messages.recv_many(&mut trip, TRIP) => {
                if received == 0 {
                    return;
                }
            }
            () = stop.cancelled() => messages.close(),
        }
        deliver(&redis, trip.drain(..)).await;
    }
}

async fn deliver(redis: &RedisConnection, trip: impl Iterator<Item = WriterMessage>) {
    let mut fills = Vec::new();
    let mut fences = Vec::new();
    let mut messages = Vec::new();
    for message in trip {
        match message {
            WriterMessage::Fill(call) => fills.push(call),
            WriterMessage::Stock(changes) => {
                // The fence was raised before the commit. It is raised again, because Redis may have been
                // emptied since then, and a slow reader may have filled in an old value.
                fences.extend(changes.iter().map(|change| (change.id, change.version)));
                let texts = changes.chunks(MESSAGE_ITEMS);
                messages.extend(texts.map(|some| message::stock(&redis.replica, some)));
            }
            WriterMessage::Drop(changes) => {
                let texts = changes.chunks(MESSAGE_ITEMS);
                messages.extend(texts.map(|some| message::dropped(&redis.replica, some)));
                fences.extend(changes);
            }
        }
    }
    if !fences.is_empty() {
        // If a product was changed many times, its last fence is enough.
        fences.sort_unstable_by_key(|(id, version)| (*id, std::cmp::Reverse(*version)));
        fences.dedup_by_key(|(id, _)| *id);
        redis.raise(&fences, &messages).await;
    }
    if !fills.is_empty() {
        redis.fill(fills).await;
    }
}
