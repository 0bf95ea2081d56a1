//! Positions in the write-ahead log, and the statements that ask for them.
//!
//! A standby that has replayed the log up to the end of a commit shows this commit to each statement that begins
//! later. The positions of two servers can be compared only if both belong to the same cluster and the same timeline:
//! after a failover, a standby may have replayed commits that the new primary does not have.

use sqlx::{Executor, Postgres};

/// A database of a cluster. A cluster has the same number on the primary and on its standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseId {
    pub cluster: i64,
    pub database: i64,
}

/// A position in the log of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalPosition {
    pub database: DatabaseId,
    pub timeline: i64,
    /// In bytes since the beginning of the log.
    pub bytes: i64,
}

/// What a standby answers about its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayPosition {
    /// False if the server accepts writes.
    pub standby: bool,
    /// In bytes since the beginning of the log.
    pub bytes: i64,
}

/// The database of a session, on any server.
pub(crate) async fn database_id<'c>(
    on: impl Executor<'c, Database = Postgres>,
) -> Result<DatabaseId, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        SELECT system_identifier AS "cluster!",
            (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS "database!"
        FROM pg_control_system()
        "#
    )
    .fetch_one(on)
    .await?;
    Ok(DatabaseId { cluster: row.cluster, database: row.database })
}

/// Up to where the primary has written its log to disk, with its timeline. A commit is answered and shown to other
/// sessions only after it has been written there.
///
/// # Errors
/// The server is a standby, among others.
pub(crate) async fn flushed<'c>(
    on: impl Executor<'c, Database = Postgres>,
    database: DatabaseId,
) -> Result<WalPosition, sqlx::Error> {
    // The name of a file of the log begins with the timeline, which no other function shows at once after a failover.
    let row = sqlx::query!(
        r#"
        SELECT ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint AS "timeline!",
            (pg_current_wal_flush_lsn() - '0/0')::bigint AS "bytes!"
        "#
    )
    .fetch_one(on)
    .await?;
    Ok(WalPosition { database, timeline: row.timeline, bytes: row.bytes })
}

/// Up to where a standby has replayed the log.
pub(crate) async fn replayed<'c>(
    on: impl Executor<'c, Database = Postgres>,
) -> Result<ReplayPosition, sqlx::Error> {
    sqlx::query_as!(
        ReplayPosition,
        r#"
        SELECT pg_is_in_recovery() AS "standby!",
            coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint AS "bytes!"
        "#
    )
    .fetch_one(on)
    .await
}

/// The newest timeline to which a standby certainly belongs. Only a role with `pg_read_all_stats` sees the timeline
/// that the standby receives. Other roles see a new timeline only after the standby has written changes of it to its
/// data files.
pub(crate) async fn followed_timeline<'c>(
    on: impl Executor<'c, Database = Postgres>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        SELECT greatest(
            (SELECT received_tli FROM pg_stat_wal_receiver),
            (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
            (SELECT timeline_id FROM pg_control_checkpoint())
        )::bigint AS "timeline!"
        "#
    )
    .fetch_one(on)
    .await
}
