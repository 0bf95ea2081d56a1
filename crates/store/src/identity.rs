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
    /// restore creates or truncates the table of products. After it has changed, versions and ids may have been used
    /// before with another meaning.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn database_identity(&self) -> Result<String, StoreError> {
        Ok(identity().fetch_one(self.reads()).await?)
    }

    /// From now on, `told` is called with this text for each new connection, before the connection is used. So the
    /// listener learns about another server before it sees its data. `told` must not block. Only the first call has an
    /// effect.
    pub fn watch_database(&self, told: impl Fn(&str) + Send + Sync + 'static) {
        self.generations.watch(told);
    }
}
