//! Which database this is.

use sqlx::Row as _;

use crate::{Store, StoreError};

impl Store {
    /// A text that names the database as it has been since it last may have gone back: since the server's last
    /// start, and since the table of products was made or filled by a restore. So another text says that
    /// versions and ids may have been seen before, with another meaning.
    ///
    /// # Errors
    /// The database is not available, or has no schema yet.
    pub async fn database_identity(&self) -> Result<String, StoreError> {
        let query = sqlx::query(
            "SELECT left(md5(concat_ws(' ', \
                 extract(epoch FROM pg_postmaster_start_time()), \
                 (SELECT oid FROM pg_database WHERE datname = current_database()), \
                 'products'::regclass::oid, pg_relation_filenode('products'))), 16) AS identity",
        );
        let rows = query.fetch_all(self.reads()).await?;
        rows.first().map_or_else(|| Ok(String::new()), |row| Ok(row.try_get("identity")?))
    }
}
