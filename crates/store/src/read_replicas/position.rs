//! How far the primary has written its log to disk.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use crate::{
    connections::Connections,
    wal::{WalPosition, database_id, flushed},
};

/// After an unanswered question, no other is asked for this long. Meanwhile, the primary serves the reads.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Asks the primary for its position. Only one question is asked at a time, and all callers that wait share the next
/// answer.
#[derive(Debug)]
pub(super) struct PrimaryPosition {
    connections: Connections,
    /// The time that a caller usually allows for an answer.
    wait: Duration,
    begun: AtomicU64,
    last: Mutex<PositionAnswer>,
    unanswered: parking_lot::Mutex<Option<Instant>>,
}

/// The last answer, and the number of its question.
#[derive(Debug, Default)]
struct PositionAnswer {
    number: u64,
    position: Option<WalPosition>,
}

impl PrimaryPosition {
    pub fn new(connections: Connections, wait: Duration) -> Self {
        Self {
            connections,
            wait,
            begun: AtomicU64::new(0),
            last: Mutex::default(),
            unanswered: parking_lot::Mutex::default(),
        }
    }

    /// The position at a moment after this call. `None` if the primary does not report it in time. Safe to drop.
    pub(super) async fn now(&self, deadline: Instant) -> Option<WalPosition> {
        // The answer to a question that has already been asked may be older than the caller's last write.
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let mut last = timeout_at(deadline, self.last.lock()).await.ok()?;
        if last.number >= wanted {
            return last.position;
        }
        if self.unanswered.lock().is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let asked = Instant::now();
        let position = match timeout_at(deadline, self.ask()).await {
            Ok(Ok(position)) => Some(position),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the primary does not report its position");
                None
            }
            // This caller had little time left, so the primary may well be answering.
            Err(_elapsed) if asked.elapsed() * 2 < self.wait => return None,
            Err(_elapsed) => None,
        };
        *self.unanswered.lock() = position.is_none().then(Instant::now);
        *last = PositionAnswer { number, position };
        position
    }

    /// The number of questions so far.
    pub fn questions(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    async fn ask(&self) -> Result<WalPosition, sqlx::Error> {
        let mut session = self.connections.acquire().await?;
        let database = match session.seen() {
            Some(seen) => seen.database,
            None => database_id(&mut session).await?,
        };
        let position = flushed(&mut session, database).await?;
        session.saw(position);
        Ok(position)
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}
