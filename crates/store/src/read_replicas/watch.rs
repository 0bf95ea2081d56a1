//! Asks a standby from time to time whether it can be used.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    position::PrimaryPosition,
    replica::{LeftOut, ReadReplica, judge},
};
use crate::{
    connections::connect_alone,
    wal::{WalPosition, database_id, followed_timeline, replayed},
};

/// The time between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time between two questions to a replica that was left out again and again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// If a replica is left out again sooner than this, the next question to it comes later.
const STEADY: Duration = Duration::from_secs(10);
/// The longest time for a new connection and its first answers.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The pause between two checks whether a standby has caught up.
const LOOK: Duration = Duration::from_millis(5);

/// Keeps the state of a replica up to date. Never returns.
pub(super) async fn follow(replica: &ReadReplica, position: &PrimaryPosition, wait: Duration) {
    let mut connection = None;
    let mut pause = PAUSE;
    let mut used_since: Option<Instant> = None;
    loop {
        if replica.left_out().is_some()
            && let Some(since) = used_since.take()
        {
            let doubled = (pause * 2).min(PAUSE_MAX);
            pause = if since.elapsed() < STEADY { doubled } else { PAUSE };
        }
        if let Some(state) = ask(replica, &mut connection, position, wait).await {
            replica.set(state);
            if state.is_none() {
                used_since.get_or_insert_with(Instant::now);
            }
        }
        let is_used = replica.left_out().is_none();
        tokio::select! {
            () = sleep(if is_used { PAUSE } else { pause }) => {}
            () = replica.doubted(), if is_used => {}
        }
    }
}

/// The state of a replica; `None` if the primary does not report its position.
async fn ask(
    replica: &ReadReplica,
    kept: &mut Option<PgConnection>,
    position: &PrimaryPosition,
    wait: Duration,
) -> Option<Option<LeftOut>> {
    let begun = Instant::now();
    if let Some(connection) = kept.take() {
        let needed = position.now(begun + wait).await;
        match timeout(wait, judged(connection, needed)).await {
            Ok(Ok((connection, known))) => {
                return look(replica, kept, connection, known, wait).await;
            }
            // The connection may have been closed although the server is well.
            Ok(Err(error)) => tracing::debug!(%error, "the connection to a read replica was lost"),
            Err(_elapsed) => return Some(Some(LeftOut::Silent)),
        }
    }
    let asking = async {
        let servers = replica.servers().clone().application_name("holdfast-probe");
        let connection = connect_alone(&servers, CONNECT_LIMIT).await?;
        let needed = position.now(Instant::now() + wait).await;
        judged(connection, needed).await
    };
    match timeout(CONNECT_LIMIT, asking).await {
        Ok(Ok((connection, known))) => look(replica, kept, connection, known, wait).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a read replica does not answer");
            Some(Some(LeftOut::Silent))
        }
        Err(_elapsed) => Some(Some(LeftOut::Silent)),
    }
}

/// Whether the server of a connection is a standby of the primary, and if so, what it must have replayed.
/// `None` if the primary does not report its position.
type Judged = Option<Result<WalPosition, LeftOut>>;

async fn judged(
    mut connection: PgConnection,
    needed: Option<WalPosition>,
) -> Result<(PgConnection, Judged), sqlx::Error> {
    let database = database_id(&mut connection).await?;
    let timeline = followed_timeline(&mut connection).await?;
    let standby = replayed(&mut connection).await?.standby;
    let judged = needed.map(|needed| judge(database, timeline, standby, needed).map(|()| needed));
    Ok((connection, judged))
}

/// Gives the standby some time to replay what it must have replayed.
async fn look(
    replica: &ReadReplica,
    kept: &mut Option<PgConnection>,
    mut connection: PgConnection,
    judged: Judged,
    wait: Duration,
) -> Option<Option<LeftOut>> {
    let needed = match judged {
        Some(Ok(needed)) => needed,
        Some(Err(reason)) => {
            *kept = Some(connection);
            return Some(Some(reason));
        }
        None => {
            *kept = Some(connection);
            return None;
        }
    };
    let deadline = Instant::now() + wait;
    let mut first = true;
    loop {
        let Ok(Ok(found)) = timeout_at(deadline, replayed(&mut connection)).await else {
            return Some(Some(LeftOut::Silent));
        };
        let lag = (needed.bytes - found.bytes).max(0);
        if std::mem::take(&mut first) || lag > 0 {
            replica.set_lag(lag);
        }
        let state = match lag {
            _ if !found.standby => Some(LeftOut::NoStandby),
            0 => None,
            _ if Instant::now() + LOOK >= deadline => Some(LeftOut::Lagging),
            _ => {
                sleep(LOOK).await;
                continue;
            }
        };
        *kept = Some(connection);
        return Some(state);
    }
}
