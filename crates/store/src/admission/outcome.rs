//! Whether a batch was committed, if its commit was not answered.

use std::time::Duration;

use holdfast_domain::{OrderId, ProductId};

use crate::{error::StoreError, store::Store};

/// Identifies a batch. Its transaction id shows whether it has ended, and its nonce whether the rows are its own:
/// after a crash, the server may assign a transaction id again if that id was not written to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchToken {
    pub(super) xid: String,
    pub(super) nonce: i64,
    pub(super) evidence: Evidence,
}

/// A row that the batch wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// An entry of the stock ledger, by its product and version.
    Entry(ProductId, i64),
    /// An order. Workers do not change its nonce.
    Order(OrderId),
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// All of it is in the database.
    Committed,
    /// Nothing of it is in the database.
    RolledBack,
}

/// The pause between two queries for a transaction that has not ended.
const POLL: Duration = Duration::from_millis(50);

impl Store {
    /// How the batch ended. Waits until its transaction has ended and the database answers. If it was committed,
    /// also waits until a synchronous standby has it. The caller limits the time. Safe to cancel and to call
    /// again.
    pub async fn outcome(&self, token: &BatchToken) -> BatchOutcome {
        loop {
            match self.look_up(token).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(?error, "the outcome of a commit could not be read yet");
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look_up(&self, token: &BatchToken) -> Result<Option<BatchOutcome>, StoreError> {
        // The order matters: after the end of the transaction, its rows exist or never will.
        let status = sqlx::query_scalar!("SELECT pg_xact_status($1::text::xid8)", token.xid)
            .fetch_one(self.reads())
            .await;
        match status {
            Ok(Some(status)) if status == "in progress" => return Ok(None),
            Ok(_) => {}
            // "transaction ID … is in the future": the transaction was lost in a crash, so it was not committed.
            // The missing rows confirm this.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22023") => {}
            Err(error) => return Err(error.into()),
        }
        if !self.is_there(token.evidence, token.nonce).await? {
            return Ok(Some(BatchOutcome::RolledBack));
        }
        // It may be visible because its session was ended while it waited for the standby.
        self.replicated().await?;
        Ok(Some(BatchOutcome::Committed))
    }
    async fn is_there(&self, evidence: Evidence, nonce: i64) -> Result<bool, StoreError> {
        let found = match evidence {
            Evidence::Entry(product, version) => {
                sqlx::query_scalar!(
                    r#"
                SELECT EXISTS (
                    SELECT FROM stock_ledger
                    WHERE product_id = $1 AND version = $2 AND nonce = $3
                ) AS "found!"
                "#,
                    product.0,
                    version,
                    nonce,
                )
                .fetch_one(self.reads())
                .await?
            }
            Evidence::Order(order) => {
                sqlx::query_scalar!(
                    r#"
                SELECT EXISTS (
                    SELECT FROM orders WHERE id = $1 AND batch_nonce = $2
                ) AS "found!"
                "#,
                    order.0,
                    nonce,
                )
                .fetch_one(self.reads())
                .await?
            }
        };
        Ok(found)
    }
}
