//! Whether the database answers, and which one it is.

use crate::{connections::identity, error::StoreError, store::Store};

impl Store {
    /// One round trip to the database.
    ///
    /// # Errors
    /// The database cannot be reached, or does not answer in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!("SELECT 1 AS one").fetch_one(self.reads()).await?;
        Ok(())
    }

    /// A text that names the database as it has been since it last may have gone back: since the server's last
    /// start, and since the table of products was made or filled by a restore. So another text says that
    /// versions and ids may have been seen before, with another meaning.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn database_identity(&self) -> Result<String, StoreError> {
        Ok(identity().fetch_one(self.reads()).await?)
    }

    /// Has `told` told this text by each connection that is made from now on, before anything else is asked
    /// on it: so whoever listens hears of another server before its data. It must not block. Only the first call does
    /// anything.
    pub fn watch_database(&self, told: impl Fn(&str) + Send + Sync + 'static) {
        self.generations.watch(told);
    }
}
