//! Ensures that data is on the standby before it is answered as committed.

use crate::{error::StoreError, store::Store};

impl Store {
    /// Waits until a synchronous standby has everything that can be read now. Two round trips if there is no standby.
    /// After the wait of a commit for the standby was cancelled, other sessions can read the commit, but a failover may
    /// still lose it: see `connections::replicated`. Safe to cancel.
    ///
    /// # Errors
    /// The standby does not confirm within the time limit of a statement, or the database is not available.
    pub async fn replicated(&self) -> Result<(), StoreError> {
        Ok(self.changes().session().await?.wait_for_standby().await?)
    }
}
