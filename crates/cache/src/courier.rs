//! What is sent to Redis off the callers' path: fills, and word of what was committed.
//!
//! One task takes all that waits and sends it in one round trip. The queue is bounded and may be
//! lossy: a fill that is lost is made by the next reader, and word of a commit that is lost was
//! preceded by its fence.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::entry::StockChange;
use crate::link::Link;
use crate::message::{self, MESSAGE_ITEMS};

/// The most parcels that wait.
pub(crate) const QUEUE: usize = 4_096;
/// The most parcels of one round trip.
const TRIP: usize = 256;

/// Something to be sent.
pub(crate) enum Parcel {
    Fill(redis::Cmd),
    Stock(Vec<StockChange>),
    Drop(Vec<(i64, i64)>),
}

/// Sends until `stop`, and then what still waits.
pub(crate) async fn carry(
    link: Arc<Link>,
    mut parcels: mpsc::Receiver<Parcel>,
    stop: CancellationToken,
) {
    let mut load = Vec::with_capacity(TRIP);
    loop {
        tokio::select! {
            biased;
            taken = parcels.recv_many(&mut load, TRIP) => {
                if taken == 0 {
                    return;
                }
            }
            () = stop.cancelled() => parcels.close(),
        }
        deliver(&link, load.drain(..)).await;
    }
}

async fn deliver(link: &Link, load: impl Iterator<Item = Parcel>) {
    let mut fills = Vec::new();
    let mut fences = Vec::new();
    let mut messages = Vec::new();
    for parcel in load {
        match parcel {
            Parcel::Fill(call) => fills.push(call),
            Parcel::Stock(changes) => {
                // The fence again: it was set before the commit, but Redis may have been emptied
                // since, and a slow reader let in with an old value.
                fences.extend(changes.iter().map(|change| (change.id, change.version)));
                let texts = changes.chunks(MESSAGE_ITEMS);
                messages.extend(texts.map(|some| message::stock(&link.replica, some)));
            }
            Parcel::Drop(changes) => {
                let texts = changes.chunks(MESSAGE_ITEMS);
                messages.extend(texts.map(|some| message::dropped(&link.replica, some)));
                fences.extend(changes);
            }
        }
    }
    if !fences.is_empty() {
        // Of a product that was changed many times, the last fence says all.
        fences.sort_unstable_by_key(|(id, version)| (*id, std::cmp::Reverse(*version)));
        fences.dedup_by_key(|(id, _)| *id);
        link.raise(&fences, &messages).await;
    }
    if !fills.is_empty() {
        link.fill(fills).await;
    }
}
