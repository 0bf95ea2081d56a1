//! How the methods of [`Store`] get their connections. Each statement is executed on
//!
//! - `Store::read`, if it changes nothing and may be executed on a standby: see `reads`.
//! - [`Store::reads`], if it changes nothing and needs the primary. It is executed again if its connection was dead:
//!   after a restart of the server or of a proxy, all idle connections are dead, and callers should not notice that.
//! - [`Store::work`], if a worker or maintenance writes with it.
//! - [`Store::changes`], if a caller requested the change, or [`Store::begin_change`] for several statements in one
//!   transaction. Changes use at most half of the connections (rounded up), so that reads do not wait for them. They do
//!   not wait for locked rows while they have a connection: see `locked_rows`.
//! - [`Store::admission`], for a batch.
//!
//! No statement outside of a transaction waits long for a lock while it has a connection. Another session may have
//! locked a whole table (`ALTER TABLE`, `VACUUM FULL`), and reads of that table would soon use all connections.
//!
//! If a statement was refused because its session does not accept writes, it has had no effect and is executed again on
//! another session.

use std::{
    io,
    time::{Duration, Instant},
};

use futures::{
    TryStreamExt as _,
    stream::{self, BoxStream, StreamExt as _},
};
use sqlx::{Execute, Executor as _, Postgres, SqlStr, postgres::PgArguments};
use tokio::time::sleep;

use crate::{
    connections::{Proof, Session, StatementItem, Transaction, executor, permit},
    error::{ChangeError, StoreError, Unanswered, is_lock_timeout, is_read_only},
    locked_rows::{ChangedRow, Turn, WhenLocked},
    store::Store,
};

/// The longest wait of an attempt that should not wait, if the statement cannot skip locked rows.
const NO_WAIT: Duration = Duration::from_millis(5);

/// The pauses between two attempts.
const LOCK_PAUSE_MIN: Duration = Duration::from_millis(20);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(160);

/// Executes a statement on one of the store's connections, and reads its answer before it returns the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls<'s> {
    store: &'s Store,
    kind: CallKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallKind {
    Read,
    Work,
    Change,
    /// A transaction of a change. Its `BEGIN` shows whether the connection is still alive.
    Transaction,
}

impl Store {
    /// For statements that change nothing.
    pub(crate) fn reads(&self) -> Calls<'_> {
        Calls { store: self, kind: CallKind::Read }
    }

    /// For statements of workers and maintenance that write. If a statement is dropped, it may or may not have been
    /// executed.
    pub(crate) fn work(&self) -> Calls<'_> {
        Calls { store: self, kind: CallKind::Work }
    }

    /// For statements of callers that write. If a statement is dropped, it may or may not have been executed.
    pub(crate) fn changes(&self) -> Calls<'_> {
        Calls { store: self, kind: CallKind::Change }
    }

    /// Waits for the turn of a change at a row, for at most `lock_timeout`.
    pub(crate) async fn turn(&self, row: ChangedRow) -> Result<Turn, StoreError> {
        self.locked_rows.turn(row, self.settings.lock_timeout).await
    }

    /// How long the statements of an attempt wait for locks in the database.
    pub(crate) fn wait_in_database(&self, waits: WhenLocked) -> Duration {
        match waits {
            WhenLocked::No => NO_WAIT.min(self.settings.lock_timeout),
            WhenLocked::HandOver => self.hand_over.wait(self.settings.lock_timeout),
        }
    }

    /// Begins a transaction, within the limit for changes. Its statements wait for a lock for at most `wait`.
    pub(crate) async fn begin_change(&self, wait: Duration) -> Result<Transaction, sqlx::Error> {
        let calls = Calls { store: self, kind: CallKind::Transaction };
        let begin = |session| Transaction::begin_waiting(session, wait);
        match begin(calls.session().await?).await {
            Err((session, error)) if session.is_dead() => {
                tracing::debug!(%error, "a pooled connection was dead");
                drop(session);
                begin(calls.session().await?).await.map_err(|(_, error)| error)
            }
            result => result.map_err(|(_, error)| error),
        }
    }
}

impl<'s> Calls<'s> {
    /// Acquires a connection, and measures the wait for it.
    pub(crate) async fn session(self) -> Result<Session, sqlx::Error> {
        let begun = Instant::now();
        let store = self.store;
        let session = match self.kind {
            CallKind::Read => store.main.acquire().await,
            CallKind::Work => store.main.acquire_for_writing(Proof::AfterIdleTime).await,
            CallKind::Change => self.change(Proof::Always).await,
            CallKind::Transaction => self.change(Proof::AfterIdleTime).await,
        };
        if let Some(waits) = store.waits.get() {
            match self.kind {
                CallKind::Read | CallKind::Work => waits.main(begun.elapsed()),
                CallKind::Change | CallKind::Transaction => waits.changes(begun.elapsed()),
            }
        }
        session
    }

    async fn change(self, proof: Proof) -> Result<Session, sqlx::Error> {
        let turn = permit(&self.store.changes, self.store.settings.acquire_timeout).await?;
        let mut session = self.store.main.acquire_for_writing(proof).await?;
        session.hold_also(turn);
        Ok(session)
    }

    pub(crate) fn answers<'e, 'q: 'e>(
        self,
        mut query: impl Execute<'q, Postgres> + 'q,
    ) -> BoxStream<'e, Result<StatementItem, sqlx::Error>>
    where
        's: 'e,
    {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode);
        let sql = query.sql();
        let answers = async move { self.run_in_time(sql, arguments?).await };
        stream::once(answers)
            .map_ok(|answers| stream::iter(answers.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn run(
        self,
        sql: SqlStr,
        arguments: Option<PgArguments>,
    ) -> Result<Vec<StatementItem>, sqlx::Error> {
        let mut session = self.session().await?;
        match self.once(&mut session, sql.clone(), arguments.clone()).await {
            Err(error) if self.is_nothing_done(&session, &error) => {
                tracing::debug!(%error, "a statement is executed again");
                drop(session);
                self.once(&mut self.session().await?, sql, arguments).await
            }
            answers => answers,
        }
    }

    /// Executes the statement. It waits for locks without a connection: a statement that does not get its lock has no
    /// effect, and is executed again from time to time. Only a few such statements have a connection at the same time.
    async fn run_without_lock_waits(
        self,
        sql: SqlStr,
        arguments: Option<PgArguments>,
    ) -> Result<Vec<StatementItem>, sqlx::Error> {
        let until = Instant::now() + self.store.settings.lock_timeout;
        let mut pause = LOCK_PAUSE_MIN;
        let mut result = self.run(sql.clone(), arguments.clone()).await;
        while result.as_ref().is_err_and(is_lock_timeout) && Instant::now() < until {
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(LOCK_PAUSE_MAX);
            let left = until.saturating_duration_since(Instant::now());
            let Ok(_try) = permit(&self.store.lock_tries, left).await else { break };
            result = self.run(sql.clone(), arguments.clone()).await;
        }
        result
    }

    async fn once(
        self,
        session: &mut Session,
        sql: SqlStr,
        arguments: Option<PgArguments>,
    ) -> Result<Vec<StatementItem>, sqlx::Error> {
        let is_change = self.kind == CallKind::Change;
        let answers =
            session.fetch_many((sql, arguments)).try_collect().await.map_err(|error| {
                let is_unanswered = is_change && session.is_dead();
                if is_unanswered && !is_read_only(&error) { Unanswered::wrap(error) } else { error }
            })?;
        if self.kind != CallKind::Read {
            let done = session.replicated().await;
            done.map_err(|error| if is_change { Unanswered::wrap(error) } else { error })?;
        }
        Ok(answers)
    }

    fn is_nothing_done(self, session: &Session, error: &sqlx::Error) -> bool {
        match self.kind {
            CallKind::Read => session.is_dead(),
            CallKind::Work | CallKind::Change | CallKind::Transaction => is_read_only(error),
        }
    }

    /// Executes the statement in limited time, because a hung server does not enforce its own limits.
    async fn run_in_time(
        self,
        sql: SqlStr,
        arguments: Option<PgArguments>,
    ) -> Result<Vec<StatementItem>, sqlx::Error> {
        let settings = &self.store.settings;
        // Allows for two waits: for a permit or a free connection, and for a new connection.
        let limit = settings.acquire_timeout * 2 + settings.statement_limit();
        let limit = limit + settings.lock_timeout;
        let running = self.run_without_lock_waits(sql, arguments);
        tokio::time::timeout(limit, running).await.unwrap_or_else(|_elapsed| {
            let error = sqlx::Error::Io(io::ErrorKind::TimedOut.into());
            Err(if self.kind == CallKind::Change { Unanswered::wrap(error) } else { error })
        })
    }
}

executor!(['s] Calls<'s>, Calls::answers);

/// Repeats a transaction if its session does not accept writes, because then nothing was changed.
pub(crate) async fn again<T, E: ChangeError, Writing: Future<Output = Result<T, E>>>(
    write: impl Fn() -> Writing,
) -> Result<T, E> {
    match write().await {
        Err(error) if error.is_read_only() => {
            tracing::debug!("a session did not accept writes");
            write().await
        }
        result => result,
    }
}
