//! One cluster for all tests of a test binary.

use tokio::sync::OnceCell;

use crate::postgres::{Postgres, PostgresOptions};

/// The cluster that all tests of this process share: fast, not durable, started by the first call.
/// Each test makes a database of its own in it; one that inflicts faults on the server starts a
/// [`Postgres`] of its own.
///
/// It ends with the process, and the next sandbox to start removes its folder.
///
/// # Errors
/// As [`Postgres::start`]; the next call tries again.
pub async fn shared_postgres() -> anyhow::Result<&'static Postgres> {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    SHARED
        .get_or_try_init(|| {
            Postgres::start(PostgresOptions { max_connections: 500, ..PostgresOptions::default() })
        })
        .await
}
