//! Orders that are claimed but not read yet: those with anything that may be large.
//!
//! They are read in slices of so many bytes, and no more of them than there is room for in memory: what
//! somebody keeps with an order must not end its worker. The claim is committed by then, so that an order
//! that ends the worker all the same has used up one of its tries.

use std::{collections::VecDeque, sync::Arc};

use holdfast_domain::OrderId;
use holdfast_store::{
    StoreError,
    fulfilment::{CLAIMED_BYTES_MAX, Verdict},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    Fulfilment,
    backoff::Backoff,
    consume::{Begun, Jobs},
};

/// Bytes of orders in memory, as the database counts them. Each is there a few times while it is sent.
const MEMORY_BYTES: usize = 16 * 1024 * 1024;
/// Bytes after which a slice ends.
const SLICE_BYTES: u32 = 2 * 1024 * 1024;
/// What a slice may have: its last order begins before its end.
const SLICE_BYTES_MAX: u32 = SLICE_BYTES + CLAIMED_BYTES_MAX;
/// The most orders of one slice. The server measures each of them.
const SLICE_ORDERS: usize = 128;

/// The room for orders in memory.
pub(crate) fn memory() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MEMORY_BYTES))
}

/// Reads and begins these orders. Returns when the last is begun; those that are left when the worker
/// has to end are handed back.
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
                // The server measures all that are asked for: no more than are likely to fit.
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
            // One that the database cannot read must not hold up the others.
            Err(_) if ids.len() > 1 => at_once = ids.len() / 2,
            Err(error) => {
                if let Some(begun) = unread.pop_front() {
                    cannot_be_read(jobs, begun, error).await;
                }
            }
        }
    }
    for begun in unread {
        jobs.end(begun, Verdict::HandedBack).await;
    }
}

fn part(room: &mut OwnedSemaphorePermit, bytes: usize) -> Option<OwnedSemaphorePermit> {
    room.split(bytes.min(room.num_permits()))
}

/// The order that was read; those before it are gone.
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

/// Lets go of an order that is not in the table any more. Nothing is written of it.
async fn forget<F: Fulfilment>(jobs: &Jobs<'_, F>, unread: &mut VecDeque<Begun>) {
    if let Some(gone) = unread.pop_front() {
        jobs.end(gone, Verdict::HandedBack).await;
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
