//! The connections of admission.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

use crate::{Store, connections::Session, hand_over::HAND_OVER_MIN};

/// A session waits for this much longer than others wait for its locks, so that those give up first.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// The options of a session of admission.
///
/// A batch is idle in its transaction only while its process computes, which takes milliseconds. One
/// that is idle for longer than others wait for its locks is frozen or cut off. The server ends its session, because it
/// has locked the rows of the products that everybody wants.
pub(crate) fn session(options: PgConnectOptions, lock_timeout: Duration) -> PgConnectOptions {
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    options.options([
        ("idle_in_transaction_session_timeout", millis(lock_timeout + IDLE_GRACE)),
        // Whatever a batch waits for, it has locked products.
        ("lock_timeout", millis(HAND_OVER_MIN.min(lock_timeout))),
    ])
}

impl Store {
    /// A connection for a batch; the wait for it is counted. Not proved to be alive: a batch finds out before it writes.
    pub(crate) async fn admission(&self) -> Result<Session, sqlx::Error> {
        self.counted_admission(self.admission.acquire_for_writing(false)).await
    }

    /// A connection for a query about rows that a batch could not lock.
    pub(super) async fn admission_for_reading(&self) -> Result<Session, sqlx::Error> {
        self.counted_admission(self.admission.acquire()).await
    }

    async fn counted_admission(
        &self,
        acquire: impl Future<Output = Result<Session, sqlx::Error>>,
    ) -> Result<Session, sqlx::Error> {
        let begun = Instant::now();
        let session = acquire.await;
        if let Some(waits) = self.waits.get() {
            waits.admission(begun.elapsed());
        }
        session
    }
}
