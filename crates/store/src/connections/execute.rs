//! Runs statements on a session, each for a limited time, and records the state of the session.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    Stream, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use holdfast_telemetry::database_warnings::heard;
use sqlx::{
    Either, Execute, Executor as _, Postgres,
    postgres::{PgDatabaseError, PgQueryResult, PgRow, PgSeverity},
};
use tokio::time::{Sleep, sleep};

use super::{
    generations::Generations,
    session::{HeldConnection, Session, SessionState},
};

/// A row, or the end of a statement.
pub(crate) type StatementItem = Either<PgQueryResult, PgRow>;

/// The right to run one message on a session: one or more statements that are sent together.
#[derive(Debug)]
pub(crate) struct Message<'c> {
    session: &'c mut Session,
    from: SessionState,
    to: SessionState,
}

impl<'c> Message<'c> {
    /// Statements outside of a transaction.
    pub fn alone(session: &'c mut Session) -> Self {
        Self { session, from: SessionState::Idle, to: SessionState::Idle }
    }

    /// Statements that begin with `BEGIN`.
    pub fn begin(session: &'c mut Session) -> Self {
        Self { session, from: SessionState::Idle, to: SessionState::Open }
    }

    /// Statements within a transaction.
    pub fn within(session: &'c mut Session) -> Self {
        Self { session, from: SessionState::Open, to: SessionState::Open }
    }

    /// `COMMIT`.
    pub fn commit(session: &'c mut Session) -> Self {
        Self { session, from: SessionState::Open, to: SessionState::Idle }
    }

    /// `ROLLBACK`.
    pub fn rollback(session: &'c mut Session) -> Self {
        // A rollback does not show whether the session accepts writes.
        session.writes = false;
        Self { session, from: SessionState::Open, to: SessionState::Idle }
    }
}

/// Implements `Executor` for a type, with a function that returns all answers to a query. Preparing or describing a
/// statement without executing it is an error.
macro_rules! executor {
    ([$lifetime:lifetime $($generics:tt)*] $this:ty, $answers:path) => {
        impl<$lifetime, $($generics)*> sqlx::Executor<$lifetime> for $this {
            type Database = sqlx::Postgres;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures::stream::BoxStream<'e, Result<$crate::connections::StatementItem, sqlx::Error>>
            where
                $lifetime: 'e,
                E: 'q + sqlx::Execute<'q, sqlx::Postgres>,
            {
                $answers(self, query)
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures::future::BoxFuture<'e, Result<Option<sqlx::postgres::PgRow>, sqlx::Error>>
            where
                $lifetime: 'e,
                E: 'q + sqlx::Execute<'q, sqlx::Postgres>,
            {
                Box::pin($crate::connections::first($answers(self, query)))
            }

            fn prepare_with<'e>(
                self,
                _: sqlx::SqlStr,
                _: &'e [sqlx::postgres::PgTypeInfo],
            ) -> futures::future::BoxFuture<'e, Result<sqlx::postgres::PgStatement, sqlx::Error>>
            where
                $lifetime: 'e,
            {
                Box::pin(async { Err($crate::connections::misused()) })
            }

            fn describe<'e>(
                self,
                _: sqlx::SqlStr,
            ) -> futures::future::BoxFuture<'e, Result<sqlx::Describe<sqlx::Postgres>, sqlx::Error>>
            where
                $lifetime: 'e,
            {
                Box::pin(async { Err($crate::connections::misused()) })
            }
        }
    };
}
pub(crate) use executor;

/// The first row. Reads all answers, because an error may follow the row, and the session is not free before their
/// end.
pub(crate) async fn first(
    mut answers: BoxStream<'_, Result<StatementItem, sqlx::Error>>,
) -> Result<Option<PgRow>, sqlx::Error> {
    let mut first = None;
    while let Some(answer) = answers.try_next().await? {
        if let Either::Right(row) = answer {
            first.get_or_insert(row);
        }
    }
    Ok(first)
}

executor!(['c] Message<'c>, Message::answers);
executor!(['c] &'c mut Session, Session::answers);

impl Session {
    fn answers<'e, 'q: 'e>(
        &'e mut self,
        query: impl Execute<'q, Postgres> + 'q,
    ) -> BoxStream<'e, Result<StatementItem, sqlx::Error>> {
        Message::alone(self).answers(query)
    }
}

impl<'c> Message<'c> {
    pub(super) fn answers<'e, 'q: 'e>(
        self,
        query: impl Execute<'q, Postgres> + 'q,
    ) -> BoxStream<'e, Result<StatementItem, sqlx::Error>>
    where
        'c: 'e,
    {
        let Self { session, from, to } = self;
        let Session {
            held: Some(HeldConnection { connection, set, .. }),
            state,
            began,
            fresh,
            writes,
            warned,
        } = session
        else {
            return stream::once(async { Err(misused()) }).boxed();
        };
        Box::pin(RunningStatement {
            number: connection.number,
            answers: connection.inner.fetch_many(query),
            state,
            began,
            warned,
            from,
            to,
            fresh: *fresh,
            writes: *writes,
            limit: set.options.limit,
            generations: &set.generations,
            begun: None,
            left: set.options.connect.left(connection.server),
        })
    }
}

/// A statement that cannot be executed where it was sent.
pub(crate) fn misused() -> sqlx::Error {
    sqlx::Error::Protocol("the session is not in the state that the statement needs".to_owned())
}

/// The answers to one message.
struct RunningStatement<'e> {
    answers: BoxStream<'e, Result<StatementItem, sqlx::Error>>,
    state: &'e mut SessionState,
    began: &'e mut bool,
    warned: &'e mut bool,
    from: SessionState,
    to: SessionState,
    fresh: bool,
    writes: bool,
    number: u64,
    limit: Duration,
    generations: &'e Generations,
    begun: Option<Pin<Box<Sleep>>>,
    /// Completes when new connections lead to another server, because then this one will not answer.
    left: Option<BoxFuture<'e, ()>>,
}

impl Stream for RunningStatement<'_> {
    type Item = Result<StatementItem, sqlx::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let call = self.get_mut();
        if call.begun.is_none() {
            if *call.state != call.from {
                return Poll::Ready(Some(Err(misused())));
            }
            // The state is unknown until the last answer has arrived. If the caller is dropped before that, it stays
            // unknown.
            *call.state = SessionState::Unknown;
            *call.began |= call.to == SessionState::Open;
            *call.warned = false;
        }
        let limit = call.begun.get_or_insert_with(|| Box::pin(sleep(call.limit)));
        let (answer, warned) = heard(|| call.answers.as_mut().poll_next(cx));
        *call.warned |= warned;
        match answer {
            Poll::Ready(Some(Ok(answer))) => Poll::Ready(Some(Ok(answer))),
            Poll::Ready(None) => {
                *call.state = call.to;
                *call.began = call.to == SessionState::Open;
                if call.writes && call.to == SessionState::Idle {
                    call.generations.written(call.number);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                call.failed(&error);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending if limit.as_mut().poll(cx).is_ready() => {
                let error = sqlx::Error::Io(io::ErrorKind::TimedOut.into());
                call.failed(&error);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending
                if call.left.as_mut().is_some_and(|it| it.as_mut().poll(cx).is_ready()) =>
            {
                let message = "another database server is in use now";
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, message);
                let error = sqlx::Error::Io(error);
                call.failed(&error);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl RunningStatement<'_> {
    fn failed(&mut self, error: &sqlx::Error) {
        match ErrorEffect::of(error) {
            ErrorEffect::Refused => {}
            ErrorEffect::ReadOnly => {
                self.generations.refused(self.fresh);
                if !self.fresh {
                    *self.state = SessionState::Dead;
                }
            }
            ErrorEffect::Ended => *self.state = SessionState::Dead,
            ErrorEffect::Lost => {
                *self.state = SessionState::Dead;
                self.generations.retire_all();
            }
        }
    }
}

/// What an error says about its session.
enum ErrorEffect {
    /// A statement was refused; the session can still be used.
    Refused,
    /// The session does not accept writes.
    ReadOnly,
    /// The server has ended this session.
    Ended,
    /// The connection is lost, and probably so are all other existing connections.
    Lost,
}

impl ErrorEffect {
    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                let code = database.code();
                let code = code.as_deref().unwrap_or_default();
                let severity =
                    database.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
                match severity {
                    _ if code == "25006" => Self::ReadOnly,
                    // The server is stopping or has crashed.
                    Some(PgSeverity::Fatal | PgSeverity::Panic)
                        if code.starts_with("57P") || code.starts_with("08") =>
                    {
                        Self::Lost
                    }
                    Some(PgSeverity::Fatal | PgSeverity::Panic) => Self::Ended,
                    _ => Self::Refused,
                }
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => Self::Lost,
            // All other errors are on our side: a value cannot be sent or read. The cleaning of the session shows
            // whether it is still usable.
            _ => Self::Refused,
        }
    }
}
