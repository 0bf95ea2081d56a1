//! Memory that is free goes back to the system.
//!
//! mimalloc keeps freed memory with the thread that had it, for its next allocations. After a flood of
//! requests there are none that need as much, and a process that is near its limit of memory without a
//! need for it is killed for the next peak.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How often a thread gives memory back, when it has nothing else to do. It takes less than a
/// millisecond.
const INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// To be called when a thread has nothing to do.
pub(super) fn give_back() {
    let now = Instant::now();
    if LAST.get().is_none_or(|last| now.duration_since(last) >= INTERVAL) {
        LAST.set(Some(now));
        collect();
    }
}

#[allow(unsafe_code)]
fn collect() {
    // SAFETY: it takes no pointer, may be called at any time, and changes nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
