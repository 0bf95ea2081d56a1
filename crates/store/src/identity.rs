//! Which database this is.

use sqlx::Row as _;

use crate::{Store, StoreError};

/// Another text if the server was started anew, or the table of products made or filled by a restore.
pub(crate) const IDENTITY: &str = "SELECT left(md5(concat_ws(' ', \
         extract(epoch FROM pg_postmaster_start_time()), \
         (SELECT oid FROM pg_database WHERE datname = current_database()), \
         to_regclass('products')::oid, pg_relation_filenode(to_regclass('products')))), 16) \
     AS identity";

impl Store {
    /// A text that names the database as it has been since it last may have gone back: since the server's last
    /// start, and since the table of products was made or filled by a restore. So another text says that
    /// versions and ids may have been seen before, with another meaning.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn database_identity(&self) -> Result<String, StoreError> {
        let rows = sqlx::query(IDENTITY).fetch_all(self.reads()).await?;
        rows.first().map_or_else(|| Ok(String::new()), |row| Ok(row.try_get("identity")?))
    }

    /// Has `told` told this text by each connection that is made from now on, before anything else is asked
    /// on it: so whoever listens hears of another server before its data. It must not block. Only the first call does
    /// anything.
    pub fn watch_database(&self, told: impl Fn(&str) + Send + Sync + 'static) {
        self.generations.watch(told);
    }
}
