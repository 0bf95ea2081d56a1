//! Reads on standbys.
//!
//! A standby serves a read only if the caller cannot notice it:
//!
//! 1. The read asks the primary how far its log is on disk (`position`). All reads that arrive during a question share
//!    the next one, so the primary answers one short statement for many reads.
//! 2. It takes a session on a standby (`replica`), and waits until the standby has replayed the log up to there. From
//!    then on, the session shows every write that any process had answered before the read began.
//! 3. All statements of the read are executed on this session (`crate::reads`). If something fails, for example
//!    because the standby cancels a read that conflicts with its recovery, the whole read is repeated once, on the
//!    primary.
//!
//! Clients need no tokens, and may use any process. If the primary does not answer, reads fail as they do without
//! standbys, because it is then unknown what a standby lacks.
//!
//! A standby is left out while it does not answer, lags by more than the longest wait, is not a standby of this
//! database, or follows a different timeline from the primary. So only a few reads lose time by finding that out.
//! [`ReadReplicas::watch`] asks each standby every second, or less often if it was left out repeatedly, and uses it
//! again when it can.

use std::{
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    connections::{Connections, Generations, Session, SetOptions},
    error::StoreError,
    settings::StoreSettings,
};

mod metrics;
mod position;
mod replica;
mod watch;

pub use metrics::ReadReplicaMetrics;

use metrics::ReadOutcome;
use position::PrimaryPosition;
use replica::{LeftOut, ReadReplica};

/// The standbys of a store, and how they are used.
#[derive(Debug)]
pub(crate) struct ReadReplicas {
    each: Vec<ReadReplica>,
    position: PrimaryPosition,
    /// The longest time that a read may wait before the primary serves it.
    wait: Duration,
    /// Which of several equal replicas is next.
    turn: AtomicUsize,
    /// Set when metrics are registered.
    metrics: OnceLock<ReadReplicaMetrics>,
}

impl ReadReplicas {
    /// `None` if no standbys are set. Does not connect.
    pub fn new(settings: &StoreSettings, generations: &Arc<Generations>) -> Option<Arc<Self>> {
        let standbys = settings.read_replicas.as_ref()?;
        let set = |connect, size, acquire_timeout, generations| {
            let options = SetOptions {
                connect,
                prepare: None,
                size,
                acquire_timeout,
                limit: settings.statement_limit(),
                patient: false,
            };
            Connections::new(options, generations)
        };
        let replica = |servers| {
            // The sessions of one standby say nothing about those of other servers.
            let own = Arc::<Generations>::default();
            let connect = settings.reading_session(&servers);
            let size = settings.read_replica_connections;
            ReadReplica::new(servers, set(connect, size, settings.acquire_timeout, own))
        };
        let questions =
            set(settings.main_session(), 2, settings.read_replica_wait, Arc::clone(generations));
        Some(Arc::new(Self {
            each: standbys.servers().separately().map(replica).collect(),
            position: PrimaryPosition::new(questions, settings.read_replica_wait),
            wait: settings.read_replica_wait,
            turn: AtomicUsize::new(0),
            metrics: OnceLock::new(),
        }))
    }

    /// Asks each standby from time to time whether it can be used, for as long as it is polled. Safe to drop.
    pub(crate) async fn watch(&self) {
        let watching =
            self.each.iter().map(|replica| watch::follow(replica, &self.position, self.wait));
        join_all(watching).await;
    }

    /// Reads on a standby. `None` if the primary must serve the read.
    pub(crate) async fn read<T, R>(
        &self,
        read: impl Fn(Session) -> R,
    ) -> Option<Result<T, StoreError>>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        let begun = Instant::now();
        let result = self.try_read(&read, begun + self.wait).await;
        if let Some(metrics) = self.metrics.get() {
            let outcome = result.as_ref().map_or_else(|outcome| *outcome, |_| ReadOutcome::Replica);
            metrics.count(outcome);
        }
        result.ok()
    }

    async fn try_read<T, R>(
        &self,
        read: &impl Fn(Session) -> R,
        deadline: Instant,
    ) -> Result<Result<T, StoreError>, ReadOutcome>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        let replica = self.choose().ok_or(ReadOutcome::NoReplica)?;
        let begun = Instant::now();
        let needed = self.position.now(deadline).await.ok_or(ReadOutcome::PrimarySilent)?;
        let session = replica.session(needed, deadline).await?;
        if let Some(metrics) = self.metrics.get() {
            metrics.waited(begun.elapsed());
        }
        let mut reading = pin!(read(session));
        let mut suspicious = pin!(sleep(self.wait));
        let mut asked = false;
        let result = loop {
            tokio::select! {
                biased;
                result = &mut reading => break result,
                // The session may hang with its server.
                () = replica.silent() => return Err(ReadOutcome::Failed),
                () = &mut suspicious, if !asked => {
                    asked = true;
                    replica.ask_now();
                }
            }
        };
        match result {
            // The primary would need as long.
            Err(error @ StoreError::Timeout(_)) => Ok(Err(error)),
            Err(error) => {
                tracing::debug!(%error, "a read is repeated on the primary");
                Err(replica.failed(&error))
            }
            Ok(found) => Ok(Ok(found)),
        }
    }

    /// The replica with the fewest reads among those that are used.
    fn choose(&self) -> Option<&ReadReplica> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (head, tail) = self.each.split_at(turn.checked_rem(self.each.len())?);
        tail.iter()
            .chain(head)
            .filter(|replica| replica.left_out().is_none())
            .min_by_key(|replica| replica.in_use())
    }

    pub(crate) async fn close(&self) {
        join_all(self.each.iter().map(ReadReplica::close)).await;
        self.position.close().await;
    }
}
