//! Ensures that data is on the standby before it is answered as committed.

use crate::{error::StoreError, store::Store};

impl Store {
    /// Waits until a synchronous standby has everything that can be read now. One round trip if there is no standby. If
    /// a commit's wait for the standby was cancelled, the commit can be read and may still be lost in a failover: see
    /// `connections::replicated`. Safe to cancel.
    ///
    /// # Errors
    /// The standby does not confirm within the time limit of a statement, or the database is not available.
    pub async fn replicated(&self) -> Result<(), StoreError> {
        Ok(self.changes().session().await?.wait_for_standby().await?)
    }
}
