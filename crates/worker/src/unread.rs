//! Claimed orders that are still to be read, because they contain something that may be large.
//!
//! They are read in slices of limited size, and only as many as the memory limit allows, so that large metadata cannot
//! kill the worker. The claim is committed before the order is read, so an order that still kills its worker has used
//! up an attempt.

use std::{collections::VecDeque, sync::Arc};

use holdfast_domain::OrderId;
use holdfast_store::{
    StoreError,
    fulfilment::{AttemptResult, CLAIMED_BYTES_MAX},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    Fulfilment,
    backoff::Backoff,
    jobs::{Begun, Jobs},
};

/// The bytes of orders in memory, as the database counts them. While an order is sent, there are several copies of it.
const MEMORY_BYTES: usize = 16 * 1024 * 1024;
/// Bytes after which a slice ends.
const SLICE_BYTES: u32 = 2 * 1024 * 1024;
/// The most bytes of a slice: its last order begins before the limit.
const SLICE_BYTES_MAX: u32 = SLICE_BYTES + CLAIMED_BYTES_MAX;
/// The most orders of one slice. The server measures each of them.
const SLICE_ORDERS: usize = 128;

pub(crate) fn memory() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MEMORY_BYTES))
}

/// Reads and starts these orders. Returns when the last one is started. Orders that remain when the worker ends are handed
/// back.
pub(crate) async fn begin<F: Fulfilment>(
    jobs: &Jobs<'_, F>,
    mut unread: VecDeque<Begun>,
    stop: &CancellationToken,
) {
    let shared = jobs.shared;
    let (mut failures, mut at_once) = (0, SLICE_ORDERS);
    while !unread.is_empty() {
        let room = Arc::clone(&shared.memory).acquire_many_owned(SLICE_BYTES_MAX);
        let Some(Ok(room)) = stop.run_until_cancelled(room).await else { break };
        let ids: Vec<_> = unread.iter().take(at_once).map(|begun| begun.claim.order_id).collect();
        match shared.store.claimed(&ids, SLICE_BYTES).await {
            Ok(orders) => {
                failures = 0;
                // The server measures every order that is requested, so request about as many as fit.
                at_once = (orders.len() * 2).clamp(1, SLICE_ORDERS);
                shared.health.database(None);
                if orders.is_empty() {
                    forget(jobs, &mut unread).await;
                }
                let mut room = room;
                for read in orders {
                    let Some(begun) = next(jobs, &mut unread, read.order_id).await else {
                        continue;
                    };
                    match read.order {
                        Ok(order) => {
                            let memory = part(&mut room, read.bytes);
                            jobs.start(begun, order, memory).await;
                        }
                        Err(error) => cannot_be_read(jobs, begun, error).await,
                    }
                }
            }
            Err(error) if error.is_transient() => {
                failures += 1;
                shared.health.database(Some(&error));
                let wait = Backoff::RECONNECT.after(failures);
                if tokio::time::timeout(wait, stop.cancelled()).await.is_ok() {
                    break;
                }
            }
            // An order that the database cannot read must not delay the others.
            Err(_) if ids.len() > 1 => at_once = ids.len() / 2,
            Err(error) => {
                if let Some(begun) = unread.pop_front() {
                    cannot_be_read(jobs, begun, error).await;
                }
            }
        }
    }
    for begun in unread {
        jobs.end(begun, AttemptResult::HandedBack).await;
    }
}

fn part(room: &mut OwnedSemaphorePermit, bytes: usize) -> Option<OwnedSemaphorePermit> {
    room.split(bytes.min(room.num_permits()))
}

/// Returns the order that was read. Those before it no longer exist.
async fn next<F: Fulfilment>(
    jobs: &Jobs<'_, F>,
    unread: &mut VecDeque<Begun>,
    id: OrderId,
) -> Option<Begun> {
    while unread.front().is_some_and(|begun| begun.claim.order_id != id) {
        forget(jobs, unread).await;
    }
    unread.pop_front()
}

/// Ends an order that no longer exists. Nothing is written for it.
async fn forget<F: Fulfilment>(jobs: &Jobs<'_, F>, unread: &mut VecDeque<Begun>) {
    if let Some(gone) = unread.pop_front() {
        jobs.end(gone, AttemptResult::HandedBack).await;
    }
}

async fn cannot_be_read<F: Fulfilment>(jobs: &Jobs<'_, F>, begun: Begun, error: StoreError) {
    let chain = holdfast_telemetry::Chain(&error).to_string();
    tracing::error!(order.id = begun.claim.order_id.0, error = chain, "an order cannot be read");
    let tries = begun.claim.tries;
    let returns = u32::try_from(tries).unwrap_or(1).saturating_sub(1);
    let reason = format!("the order cannot be read: {chain}");
    let verdict = jobs.shared.settings.retry(tries, returns, reason);
    jobs.end(begun, verdict).await;
}
