//! Whether the database answers, and its identity.

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

    /// A text that changes whenever the database may have gone back in time: with each start of the server, and when a
    /// restore creates or fills the table of products. After a change, versions and ids may have been used before with
    /// another meaning.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn database_identity(&self) -> Result<String, StoreError> {
        Ok(identity().fetch_one(self.reads()).await?)
    }

    /// From now on, each new connection calls `told` with this text before it executes anything else, so the listener
    /// learns about another server before it sees its data. `told` must not block. Only the first call has an effect.
    pub fn watch_database(&self, told: impl Fn(&str) + Send + Sync + 'static) {
        self.generations.watch(told);
    }
}
