//! The statements of a read, on the primary or on a standby.

use std::sync::Arc;

use futures::{
    TryStreamExt as _,
    stream::{self, BoxStream, StreamExt as _},
};
use holdfast_telemetry::{Registry, metrics};
use sqlx::{Execute, Executor as _, Postgres};
use tokio::sync::Mutex;

use crate::{
    calls::Calls,
    connections::{Session, StatementItem, executor},
    error::StoreError,
    read_replicas::ReadReplicaMetrics,
    store::Store,
};

/// Where the statements of a read are executed. Each statement uses a clone.
#[derive(Clone, Debug)]
pub(crate) struct Reads<'s>(ReadServer<'s>);

#[derive(Clone, Debug)]
enum ReadServer<'s> {
    Primary(Calls<'s>),
    Replica(Arc<Mutex<Session>>),
}

impl<'s> Reads<'s> {
    pub fn on_primary(calls: Calls<'s>) -> Self {
        Self(ReadServer::Primary(calls))
    }

    pub fn on_replica(session: Session) -> Self {
        Self(ReadServer::Replica(Arc::new(Mutex::new(session))))
    }

    fn answers<'e, 'q: 'e>(
        self,
        mut query: impl Execute<'q, Postgres> + 'q,
    ) -> BoxStream<'e, Result<StatementItem, sqlx::Error>>
    where
        's: 'e,
    {
        let session = match self.0 {
            ReadServer::Primary(calls) => return calls.answers(query),
            ReadServer::Replica(session) => session,
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

impl Store {
    /// The same store, but read replicas serve its reads of orders, dead letters, holds, the stock ledger, and the
    /// lists of products and stock levels, if there are any and while [`Self::watch_read_replicas`] runs. Such a read
    /// shows every write that was answered before it began.
    #[must_use]
    pub fn on_read_replicas(&self) -> Self {
        Self { reads_replicas: true, ..self.clone() }
    }

    /// Asks each read replica from time to time whether it can be used, for as long as it is polled. Returns at once if
    /// there are none. Safe to drop: from then on, a replica that is left out is not used again.
    pub async fn watch_read_replicas(&self) {
        if let Some(replicas) = &self.replicas {
            replicas.watch().await;
        }
    }

    /// Registers the metrics of the read replicas. From then on, the reads of this store and its clones are counted.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn register_read_metrics(&self, registry: &Registry) -> Result<(), metrics::Error> {
        ReadReplicaMetrics::register(registry, self.replicas.as_ref())
    }

    /// Executes a read, on a standby if this store uses standbys. All its statements are executed on the same server.
    /// It may be executed twice.
    pub(crate) async fn read<'s, T, R>(
        &'s self,
        read: impl Fn(Reads<'s>) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        if self.reads_replicas
            && let Some(replicas) = &self.replicas
            && let Some(result) = replicas.read(|session| read(Reads::on_replica(session))).await
        {
            return result;
        }
        read(Reads::on_primary(self.reads())).await
    }
}
