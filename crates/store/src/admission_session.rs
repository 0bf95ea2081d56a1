//! The options of the sessions of admission.

use std::time::Duration;

use crate::{hand_over::HAND_OVER_MIN, servers::Servers};

/// A session may be idle in a transaction for this much longer than other sessions wait for its locks, so that those
/// give up first.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// The options of a session of admission.
///
/// A batch is idle in its transaction only while its process computes, which takes milliseconds. If it is idle for
/// longer than other sessions wait for its locks, the process is frozen or disconnected. The server ends its session,
/// because it has locked rows that many others need.
pub(crate) fn admission_session(servers: Servers, lock_timeout: Duration) -> Servers {
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    servers.options(&[
        ("idle_in_transaction_session_timeout", millis(lock_timeout + IDLE_GRACE)),
        // A batch that waits for a lock may have locked products.
        ("lock_timeout", millis(HAND_OVER_MIN.min(lock_timeout))),
    ])
}
