//! One cluster for all tests of a test binary.

use tokio::sync::OnceCell;

use crate::postgres::{Postgres, PostgresOptions};

/// The cluster that all tests of this process share. It is fast and not durable; the first call starts it. Each test
/// creates its own database in it. A test that injects faults into the server starts its own [`Postgres`].
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
