//! Returns free memory to the system.
//!
//! mimalloc keeps freed memory for the next allocations of the same thread. After a flood of requests, that memory is not
//! needed, and a process near its memory limit would be killed at the next peak.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// The shortest time between two returns by an idle thread. Each takes less than a millisecond.
const INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Called when a thread becomes idle.
pub(super) fn give_back() {
    let now = Instant::now();
    if LAST.get().is_none_or(|last| now.duration_since(last) >= INTERVAL) {
        LAST.set(Some(now));
        collect();
    }
}

#[allow(unsafe_code)]
fn collect() {
    // SAFETY: it takes no pointers, can be called at any time, and does not affect memory in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
