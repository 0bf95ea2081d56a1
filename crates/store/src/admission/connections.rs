//! The connections of admission.

use std::time::Instant;

use crate::{
    connections::{Proof, Session},
    store::Store,
};

impl Store {
    /// A connection for a batch. The wait for it is measured. It may be dead, which a batch notices
    /// before it writes.
    pub(crate) async fn admission(&self) -> Result<Session, sqlx::Error> {
        self.counted_admission(self.admission.acquire_for_writing(Proof::None)).await
    }

    /// A connection for a query about rows that a batch could not lock.
    pub(super) async fn admission_for_reading(&self) -> Result<Session, sqlx::Error> {
        self.counted_admission(self.admission.acquire()).await
    }

    async fn counted_admission(
        &self,
        acquire: impl Future<Output = Result<Session, sqlx::Error>>,
    ) -> Result<Session, sqlx::Error> {
        let begun = Instant::now();
        let session = acquire.await;
        if let Some(waits) = self.waits.get() {
            waits.admission(begun.elapsed());
        }
        session
    }
}
