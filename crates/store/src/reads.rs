//! Reads, which change nothing and so can be tried again.

use std::{io, time::Duration};

use sqlx::postgres::PgPoolOptions;

use crate::{Broken, Store, StoreError};

/// What the way there and back may take, on top of the server's own limit.
const GRACE: Duration = Duration::from_secs(1);

impl Store {
    /// Does a read, and does it once more if its connection turns out to be dead: after a restart
    /// of the server or of something in between, all idle ones are, and no caller should learn of
    /// it. A server that hangs does not answer its own timeouts, so ours ends the read then.
    /// Safe to cancel.
    pub(crate) async fn read<T, Reading>(&self, read: impl Fn() -> Reading) -> Result<T, StoreError>
    where
        Reading: Future<Output = Result<T, sqlx::Error>>,
    {
        let limit = self.settings.acquire_timeout + self.settings.statement_timeout + GRACE;
        let in_time = async {
            match read().await.map_err(StoreError::from) {
                Err(StoreError::Unavailable(error)) => {
                    tracing::debug!(%error, "a pooled connection was dead");
                    self.broken.note();
                    Ok(read().await?)
                }
                result => result,
            }
        };
        tokio::time::timeout(limit, in_time)
            .await
            .unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()))
    }
}

/// Has connections that were idle when another was found dead prove that they are not, once.
pub(crate) fn prove_after_break(options: PgPoolOptions, broken: &Broken) -> PgPoolOptions {
    let broken = broken.clone();
    options.before_acquire(move |connection, idle| {
        let suspect = broken.since().is_some_and(|since| idle.idle_for >= since);
        Box::pin(async move {
            if suspect {
                sqlx::Connection::ping(connection).await?;
            }
            Ok(true)
        })
    })
}
