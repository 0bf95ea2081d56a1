//! What became of a commit whose answer was lost.

use std::time::Duration;

use holdfast_domain::ProductId;

use crate::{Store, StoreError};

/// Recognises one batch for certain: its transaction id tells whether it is over, its nonce whether
/// the rows are really its own. (A transaction id alone does not: one that was never written to
/// the log can be given out again after a crash of the server.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchToken {
    pub(crate) xid: String,
    pub(crate) nonce: i64,
    /// Any row of the ledger that the batch wrote.
    pub(crate) entry: (ProductId, i64),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was committed: all of it is in the database.
    Committed,
    /// It was rolled back: nothing of it is left.
    RolledBack,
}

/// Between two looks at a transaction that has not ended yet.
const POLL: Duration = Duration::from_millis(50);

impl Store {
    /// Finds out how the batch ended, waiting for the end of its transaction and for the database
    /// to come back, for as long as the caller does. Safe to cancel and to call again.
    pub async fn outcome(&self, token: &BatchToken) -> Outcome {
        loop {
            match self.look_up(token).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => tracing::debug!(?error, "the outcome cannot be looked up yet"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look_up(&self, token: &BatchToken) -> Result<Option<Outcome>, StoreError> {
        // Two statements, in this order: rows that are looked for after the transaction has ended
        // cannot appear any more.
        let status: Result<Option<String>, sqlx::Error> =
            sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)")
                .bind(&token.xid)
                .fetch_one(self.reads())
                .await;
        match status {
            Ok(Some(status)) if status == "in progress" => return Ok(None),
            Ok(_) => {}
            // "transaction ID … is in the future": forgotten in a crash, so it was not committed;
            // the look at the rows confirms it.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22023") => {}
            Err(error) => return Err(error.into()),
        }
        let found: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM stock_ledger \
                 WHERE product_id = $1 AND version = $2 AND nonce = $3)",
        )
        .bind(token.entry.0.0)
        .bind(token.entry.1)
        .bind(token.nonce)
        .fetch_one(self.reads())
        .await?;
        Ok(Some(if found { Outcome::Committed } else { Outcome::RolledBack }))
    }
}
