//! A transaction on a session.

use std::{borrow::BorrowMut, fmt::Debug, time::Duration};

use futures::stream::BoxStream;
use sqlx::{AssertSqlSafe, Execute, Postgres};

use super::{
    execute::{Message, StatementItem, executor},
    session::Session,
};
use crate::error::{StoreError, unanswered};

/// A transaction. Dropping it rolls back.
///
/// After a failed statement, it refuses all other statements, `COMMIT` included. So it cannot be mistaken for a
/// committed one.
#[derive(Debug)]
pub(crate) struct Transaction<S = Session>(S);

impl<S: BorrowMut<Session>> Transaction<S> {
    /// Begins a transaction. If the future is dropped before the answer, nothing is left behind.
    pub async fn begin(session: S) -> Result<Self, (S, sqlx::Error)> {
        Self::begin_by(session, "BEGIN".to_owned()).await
    }

    /// Begins a transaction with statements that wait for a lock for at most `wait`. If the future is dropped before
    /// the answer, nothing is left behind.
    pub async fn begin_waiting(session: S, wait: Duration) -> Result<Self, (S, sqlx::Error)> {
        let millis = wait.as_millis().max(1);
        Self::begin_by(session, format!("BEGIN; SET LOCAL lock_timeout = {millis}")).await
    }

    async fn begin_by(mut session: S, sql: String) -> Result<Self, (S, sqlx::Error)> {
        let begin = Message::begin(session.borrow_mut());
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(begin).await {
            Ok(_) => Ok(Self(session)),
            Err(error) => Err((session, error)),
        }
    }

    /// The transaction that a message has begun on this session: see [`Message::begin`].
    pub fn begun(session: S) -> Self {
        Self(session)
    }

    fn answers<'e, 'q: 'e>(
        &'e mut self,
        query: impl Execute<'q, Postgres> + 'q,
    ) -> BoxStream<'e, Result<StatementItem, sqlx::Error>> {
        Message::within(self.0.borrow_mut()).answers(query)
    }

    /// Commits, and waits for the standby if the server's own wait was cancelled. If it is dropped after it was polled,
    /// the outcome is unknown.
    ///
    /// # Errors
    /// [`StoreError::Unanswered`] if the outcome is unknown; after any other error, it was not committed.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let session = self.0.borrow_mut();
        sqlx::raw_sql("COMMIT").execute(Message::commit(session)).await.map_err(unanswered)?;
        session.replicated().await.map_err(unanswered)
    }

    /// Rolls back now, instead of in the background.
    ///
    /// # Errors
    /// The connection is lost, which ends the transaction too.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("ROLLBACK").execute(Message::rollback(self.0.borrow_mut())).await?;
        Ok(())
    }
}

executor!(['c S: BorrowMut<Session> + Debug + Send] &'c mut Transaction<S>, Transaction::answers);
