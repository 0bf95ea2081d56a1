//! What became of a commit whose answer was lost.

use std::time::Duration;

use crate::{Store, StoreError};

/// Recognises one batch for certain: its transaction id tells whether it is over, its nonce whether
/// the rows are really its own. (A transaction id alone does not: one that was never written to
/// the log can be given out again after a crash of the server.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchToken {
    pub(crate) xid: String,
    pub(crate) nonce: i64,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was committed: all its orders are in the database.
    Committed,
    /// It was rolled back: nothing of it is left.
    RolledBack,
}

/// Between two looks at a transaction that has not ended yet.
const POLL: Duration = Duration::from_millis(50);

impl Store {
    /// Finds out how the batch ended, waiting for the end of its transaction and for the database
    /// to come back, for as long as the caller does. Safe to cancel and to call again.
    ///
    /// `order_id` is any order of the batch.
    pub async fn outcome(&self, token: &BatchToken, order_id: holdfast_domain::OrderId) -> Outcome {
        loop {
            match self.look_up(token, order_id).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => tracing::debug!(?error, "the outcome cannot be looked up yet"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look_up(
        &self,
        token: &BatchToken,
        order_id: holdfast_domain::OrderId,
    ) -> Result<Option<Outcome>, StoreError> {
        // Two statements, in this order: rows that are looked for after the transaction has ended
        // cannot appear any more.
        let status: Result<Option<String>, sqlx::Error> =
            sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)")
                .bind(&token.xid)
                .fetch_one(&self.pool)
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
            "SELECT EXISTS (SELECT FROM orders WHERE id = $1 AND batch_nonce = $2)",
        )
        .bind(order_id.0)
        .bind(token.nonce)
        .fetch_one(&self.pool)
        .await?;
        Ok(Some(if found { Outcome::Committed } else { Outcome::RolledBack }))
    }
}
