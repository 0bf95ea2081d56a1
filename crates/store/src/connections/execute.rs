//! Running statements on a session, each for a limited time, with a record of how far it has come.

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
use sqlx::{
    Either, Execute, Executor, Postgres, SqlStr,
    postgres::{PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo},
};
use tokio::time::{Sleep, sleep};

use super::{
    Generations, Session,
    session::{Held, State},
};

/// A row, or the end of a statement.
pub(crate) type Answer = Either<PgQueryResult, PgRow>;

/// The right to run one message on a session: one or more statements that are sent together.
#[derive(Debug)]
pub(crate) struct Message<'c> {
    session: &'c mut Session,
    from: State,
    to: State,
}

impl<'c> Message<'c> {
    /// Statements outside of a transaction.
    pub fn alone(session: &'c mut Session) -> Self {
        Self { session, from: State::Idle, to: State::Idle }
    }

    /// Statements of which the first is `BEGIN`.
    pub fn begin(session: &'c mut Session) -> Self {
        Self { session, from: State::Idle, to: State::Open }
    }

    /// Statements within a transaction.
    pub fn within(session: &'c mut Session) -> Self {
        Self { session, from: State::Open, to: State::Open }
    }

    /// `COMMIT`.
    pub fn commit(session: &'c mut Session) -> Self {
        Self { session, from: State::Open, to: State::Idle }
    }

    /// `ROLLBACK`.
    pub fn rollback(session: &'c mut Session) -> Self {
        // It shows nothing of whether writes are taken.
        session.writes = false;
        Self { session, from: State::Open, to: State::Idle }
    }
}

impl<'c> Executor<'c> for Message<'c> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Answer, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Self { session, from, to } = self;
        let Session { held: Some(Held { connection, set, .. }), state, began, fresh, writes } =
            session
        else {
            return stream::once(async { Err(misused()) }).boxed();
        };
        Box::pin(Call {
            number: connection.number,
            answers: connection.inner.fetch_many(query),
            state,
            began,
            from,
            to,
            fresh: *fresh,
            writes: *writes,
            limit: set.options.limit,
            generations: &set.generations,
            begun: None,
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let mut rows = self.fetch(query);
        Box::pin(async move {
            let first = rows.try_next().await?;
            // To the end: an error may follow, and the session is not free before.
            while rows.try_next().await?.is_some() {}
            Ok(first)
        })
    }

    fn prepare_with<'e>(
        self,
        _: SqlStr,
        _: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async { Err(misused()) })
    }

    fn describe<'e>(self, _: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async { Err(misused()) })
    }
}

/// A type whose mutable reference runs each statement as a [`Message`].
macro_rules! run_as {
    ([$($generics:tt)*] $this:ty, $message:path) => {
        impl<'c, $($generics)*> sqlx::Executor<'c> for &'c mut $this {
            type Database = sqlx::Postgres;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures::stream::BoxStream<'e, Result<$crate::connections::Answer, sqlx::Error>>
            where
                'c: 'e,
                E: 'q + sqlx::Execute<'q, sqlx::Postgres>,
            {
                $message(self).fetch_many(query)
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures::future::BoxFuture<'e, Result<Option<sqlx::postgres::PgRow>, sqlx::Error>>
            where
                'c: 'e,
                E: 'q + sqlx::Execute<'q, sqlx::Postgres>,
            {
                $message(self).fetch_optional(query)
            }

            fn prepare_with<'e>(
                self,
                sql: sqlx::SqlStr,
                types: &'e [sqlx::postgres::PgTypeInfo],
            ) -> futures::future::BoxFuture<'e, Result<sqlx::postgres::PgStatement, sqlx::Error>>
            where
                'c: 'e,
            {
                $message(self).prepare_with(sql, types)
            }

            fn describe<'e>(
                self,
                sql: sqlx::SqlStr,
            ) -> futures::future::BoxFuture<'e, Result<sqlx::Describe<sqlx::Postgres>, sqlx::Error>>
            where
                'c: 'e,
            {
                $message(self).describe(sql)
            }
        }
    };
}
pub(super) use run_as;

run_as!([] Session, Message::alone);

fn misused() -> sqlx::Error {
    sqlx::Error::Protocol("the session is in another state than the statement needs".to_owned())
}

/// The answers to one message.
struct Call<'e> {
    answers: BoxStream<'e, Result<Answer, sqlx::Error>>,
    state: &'e mut State,
    began: &'e mut bool,
    from: State,
    to: State,
    fresh: bool,
    writes: bool,
    number: u64,
    limit: Duration,
    generations: &'e Generations,
    begun: Option<Pin<Box<Sleep>>>,
}

impl Stream for Call<'_> {
    type Item = Result<Answer, sqlx::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let call = self.get_mut();
        if call.begun.is_none() {
            if *call.state != call.from {
                return Poll::Ready(Some(Err(misused())));
            }
            // Until the last answer is there. Whoever goes away before leaves it so.
            *call.state = State::Unknown;
            *call.began |= call.to == State::Open;
        }
        let limit = call.begun.get_or_insert_with(|| Box::pin(sleep(call.limit)));
        match call.answers.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(answer))) => Poll::Ready(Some(Ok(answer))),
            Poll::Ready(None) => {
                *call.state = call.to;
                *call.began = call.to == State::Open;
                if call.writes && call.to == State::Idle {
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
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Call<'_> {
    fn failed(&mut self, error: &sqlx::Error) {
        match Failure::of(error) {
            Failure::Refused => {}
            Failure::ReadOnly => {
                self.generations.refused(self.fresh);
                if !self.fresh {
                    *self.state = State::Dead;
                }
            }
            Failure::Ended => *self.state = State::Dead,
            Failure::Lost => {
                *self.state = State::Dead;
                self.generations.retire_all();
            }
        }
    }
}

/// What an error says of its session.
enum Failure {
    /// A statement was refused; the session goes on.
    Refused,
    /// The session takes no writes.
    ReadOnly,
    /// The server has ended this session.
    Ended,
    /// The connection is lost, and those of the same age likely are as well.
    Lost,
}

impl Failure {
    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                let code = database.code();
                let code = code.as_deref().unwrap_or_default();
                let severity =
                    database.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
                match severity {
                    _ if code == "25006" => Self::ReadOnly,
                    // The server stops or has crashed.
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
            // What else can fail fails on this side: a value that cannot be sent or read. Whether the
            // session is in order shows when it is cleaned.
            _ => Self::Refused,
        }
    }
}
