//! The statements of a read, on the primary or on a standby.

use std::sync::Arc;

use futures::{
    TryStreamExt as _,
    stream::{self, BoxStream, StreamExt as _},
};
use sqlx::{Execute, Executor as _, Postgres};
use tokio::sync::Mutex;

use crate::{
    calls::Calls,
    connections::{Session, StatementItem, executor},
};

/// Where the statements of a read are executed. Each uses a clone.
#[derive(Clone, Debug)]
pub(crate) struct Reads<'s>(Server<'s>);

#[derive(Clone, Debug)]
enum Server<'s> {
    Primary(Calls<'s>),
    Replica(Arc<Mutex<Session>>),
}

impl<'s> Reads<'s> {
    pub fn on_primary(calls: Calls<'s>) -> Self {
        Self(Server::Primary(calls))
    }

    pub fn on_replica(session: Session) -> Self {
        Self(Server::Replica(Arc::new(Mutex::new(session))))
    }

    fn answers<'e, 'q: 'e>(
        self,
        mut query: impl Execute<'q, Postgres> + 'q,
    ) -> BoxStream<'e, Result<StatementItem, sqlx::Error>>
    where
        's: 'e,
    {
        let session = match self.0 {
            Server::Primary(calls) => return calls.answers(query),
            Server::Replica(session) => session,
        };
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode);
        let sql = query.sql();
        let answers = async move {
            let mut session = session.lock().await;
            session.fetch_many((sql, arguments?)).try_collect::<Vec<_>>().await
        };
        stream::once(answers)
            .map_ok(|answers| stream::iter(answers.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }
}

executor!(['s] Reads<'s>, Reads::answers);
