//! What is read, and then answered as kept, is kept.

use crate::{error::StoreError, store::Store};

impl Store {
    /// Waits until a synchronous standby has everything that can be read now. One round trip if there is none. A commit whose
    /// wait for the standby was cut short can be read, and may be lost in a failover: see
    /// `connections::replicated`. Safe to cancel.
    ///
    /// # Errors
    /// The standby does not confirm in the time of a statement, or the database is not available.
    pub async fn replicated(&self) -> Result<(), StoreError> {
        Ok(self.changes().session().await?.wait_for_standby().await?)
    }
}
