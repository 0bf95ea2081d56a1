//! One standby.

use std::{fmt, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};

use super::metrics::ReadOutcome;
use crate::{
    connections::{Connections, Session},
    error::StoreError,
    servers::Servers,
    wal::{DatabaseId, WalPosition, database_id, followed_timeline, replayed},
};

/// The pauses between two questions whether a standby has replayed enough.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(8);

/// Why a replica is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// It has not been asked yet.
    Starting,
    /// It cannot be reached, or does not answer.
    Silent,
    /// It accepts writes, so it is not a standby.
    NoStandby,
    /// It belongs to another cluster, or the URL names another database.
    OtherDatabase,
    /// It has not followed the primary to its timeline, or has not shown this yet.
    OtherTimeline,
    /// It did not catch up with the primary in time.
    Lagging,
}

impl LeftOut {
    pub const ALL: [Self; 6] = [
        Self::Starting,
        Self::Silent,
        Self::NoStandby,
        Self::OtherDatabase,
        Self::OtherTimeline,
        Self::Lagging,
    ];

    /// The label of metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Silent => "silent",
            Self::NoStandby => "no_standby",
            Self::OtherDatabase => "other_database",
            Self::OtherTimeline => "other_timeline",
            Self::Lagging => "lagging",
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "it has not been asked yet",
            Self::Silent => "it does not answer",
            Self::NoStandby => "it is not a standby",
            Self::OtherDatabase => "it does not have the database of DATABASE_URL",
            Self::OtherTimeline => "it does not follow the primary's timeline, or does not show it",
            Self::Lagging => "it lags",
        })
    }
}

/// A standby that reads may use.
#[derive(Debug)]
pub(super) struct ReadReplica {
    servers: Servers,
    connections: Connections,
    /// Why it is left out; `None` while it is used.
    state: watch::Sender<Option<LeftOut>>,
    /// Wakes `watch`.
    doubt: Notify,
    /// By how many bytes it lagged when it was last asked.
    lag: watch::Sender<i64>,
}

impl ReadReplica {
    pub fn new(servers: Servers, connections: Connections) -> Self {
        Self {
            servers,
            connections,
            state: watch::Sender::new(Some(LeftOut::Starting)),
            doubt: Notify::new(),
            lag: watch::Sender::new(0),
        }
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    pub fn in_use(&self) -> usize {
        self.connections.in_use()
    }

    pub fn lag(&self) -> i64 {
        *self.lag.borrow()
    }

    pub fn set_lag(&self, bytes: i64) {
        self.lag.send_replace(bytes);
    }

    pub fn left_out(&self) -> Option<LeftOut> {
        *self.state.borrow()
    }

    /// Uses the replica from now on, or leaves it out.
    pub fn set(&self, state: Option<LeftOut>) {
        let before = self.state.send_replace(state);
        if before == state {
            return;
        }
        let replica = self.servers.place();
        match state {
            None => tracing::info!(%replica, "the read replica is used"),
            Some(reason) => tracing::warn!(%replica, "the read replica is left out: {reason}"),
        }
    }

    /// Waits until it is known not to answer.
    pub(super) async fn silent(&self) {
        // It is not closed: `self` has the sender.
        let _ = self.state.subscribe().wait_for(|state| *state == Some(LeftOut::Silent)).await;
    }

    /// Makes `watch` ask at once whether it can still be used.
    pub fn ask_now(&self) {
        self.doubt.notify_one();
    }

    /// Waits for [`Self::ask_now`].
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// A session that shows everything up to this position.
    pub(super) async fn session(
        &self,
        needed: WalPosition,
        deadline: Instant,
    ) -> Result<Session, ReadOutcome> {
        let mut session = match timeout_at(deadline, self.connections.acquire()).await {
            Ok(Ok(session)) => session,
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {
                self.ask_now();
                return Err(ReadOutcome::Busy);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a read replica cannot be reached");
                self.set(Some(LeftOut::Silent));
                return Err(ReadOutcome::Failed);
            }
        };
        let mut unasked = true;
        let mut pause = PAUSE_MIN;
        loop {
            match session.seen() {
                Some(seen) if seen.database != needed.database => {
                    self.set(Some(LeftOut::OtherDatabase));
                    return Err(ReadOutcome::Failed);
                }
                Some(seen) if seen.timeline == needed.timeline && seen.bytes >= needed.bytes => {
                    return Ok(session);
                }
                _ => {}
            }
            if !std::mem::take(&mut unasked) {
                if timeout_at(deadline, sleep(pause)).await.is_err() {
                    self.set(Some(LeftOut::Lagging));
                    return Err(ReadOutcome::Behind);
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
            match timeout_at(deadline, look(&mut session, needed)).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(reason))) => {
                    self.set(Some(reason));
                    return Err(ReadOutcome::Failed);
                }
                // An old connection may be dead, while the server answers on others.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a read replica does not report its position");
                    self.ask_now();
                    return Err(ReadOutcome::Failed);
                }
                Err(_elapsed) => {
                    self.ask_now();
                    return Err(ReadOutcome::Behind);
                }
            }
        }
    }

    /// Reacts to the error of a read, and says how the read ended.
    pub fn failed(&self, error: &StoreError) -> ReadOutcome {
        if is_conflict(error) {
            return ReadOutcome::Conflict;
        }
        if matches!(error, StoreError::Database(_)) {
            // For example, prepared statements no longer fit after a change of the schema.
            self.connections.retire_all();
        }
        self.ask_now();
        ReadOutcome::Failed
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

/// Asks a session how far its server has replayed the log.
async fn look(
    session: &mut Session,
    needed: WalPosition,
) -> Result<Result<(), LeftOut>, sqlx::Error> {
    let (database, timeline) = match session.seen() {
        Some(seen) if seen.timeline == needed.timeline => (seen.database, seen.timeline),
        Some(seen) => (seen.database, followed_timeline(&mut *session).await?),
        None => (database_id(&mut *session).await?, followed_timeline(&mut *session).await?),
    };
    let found = replayed(&mut *session).await?;
    session.saw(WalPosition { database, timeline, bytes: found.bytes });
    Ok(judge(database, timeline, found.standby, needed))
}

/// Whether a server is a standby of the primary with this position.
pub(super) fn judge(
    database: DatabaseId,
    timeline: i64,
    standby: bool,
    needed: WalPosition,
) -> Result<(), LeftOut> {
    if database != needed.database {
        Err(LeftOut::OtherDatabase)
    } else if !standby {
        Err(LeftOut::NoStandby)
    } else if timeline != needed.timeline {
        Err(LeftOut::OtherTimeline)
    } else {
        Ok(())
    }
}

/// Whether the standby has cancelled a read because it conflicted with its recovery.
fn is_conflict(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40001")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standby_of_the_same_database_and_timeline_is_used() {
        let database = |cluster, database| DatabaseId { cluster, database };
        let needed = WalPosition { database: database(7, 5), timeline: 2, bytes: 100 };
        assert_eq!(judge(needed.database, 2, true, needed), Ok(()));
        for other in [database(8, 5), database(7, 6)] {
            assert_eq!(judge(other, 2, true, needed), Err(LeftOut::OtherDatabase));
        }
        assert_eq!(judge(needed.database, 2, false, needed), Err(LeftOut::NoStandby));
        for timeline in [1, 3] {
            assert_eq!(judge(needed.database, timeline, true, needed), Err(LeftOut::OtherTimeline));
        }
    }
}
