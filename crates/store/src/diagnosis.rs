//! Facts about a database that matter before a program uses it.

use std::{
    io,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::{connections::connect_alone, error::StoreError, folded::lacking, store::Store};

/// The time limit of the diagnosis, including a new connection.
const LIMIT: Duration = Duration::from_secs(10);

/// What the database reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresDiagnosis {
    /// The version, such as 150018 for 15.18.
    pub version: i32,
    /// Whether new sessions are read-only.
    pub read_only: bool,
    /// The setting `max_connections`.
    pub connections_max: i32,
    /// Open connections.
    pub connections: i64,
    /// How far its clock is ahead of this host's, with an error of up to the time that the answer
    /// took.
    pub clock_ahead: SignedDuration,
    /// What is missing for case-insensitive names.
    pub lacking: Option<String>,
    /// Tables that this user cannot read or write.
    pub forbidden: Vec<String>,
    /// Whether this user may create tables in the schema, as migrations do.
    pub may_create: bool,
}

type DiagnosisRow = (i32, bool, i32, i64, i64, Vec<String>, bool);

const QUESTION: &str = r"
    SELECT
        current_setting('server_version_num')::int,
        current_setting('transaction_read_only') = 'on',
        current_setting('max_connections')::int,
        (SELECT count(*) FROM pg_stat_activity),
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        ARRAY(
            SELECT relname::text
            FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT (
                has_table_privilege(oid, 'SELECT')
                AND (
                    relname = '_sqlx_migrations'
                    OR has_table_privilege(oid, 'INSERT')
                        AND has_table_privilege(oid, 'UPDATE')
                        AND has_table_privilege(oid, 'DELETE')
                )
            )
            ORDER BY relname
        ),
        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
    ";

impl Store {
    /// Queries the database on a separate connection. Safe to drop.
    ///
    /// # Errors
    /// It cannot be reached, or does not answer in ten seconds.
    pub async fn diagnose(&self) -> Result<PostgresDiagnosis, StoreError> {
        let asking = async {
            let servers = self.settings.connect.clone().application_name("holdfast-doctor");
            let mut connection: PgConnection = connect_alone(&servers, LIMIT).await?;
            let asked = Instant::now();
            let row: DiagnosisRow = sqlx::query_as(QUESTION).fetch_one(&mut connection).await?;
            let middle = Timestamp::now() - asked.elapsed() / 2;
            let lacking = lacking(&mut connection).await?;
            // The result is already complete.
            let _ = connection.close().await;
            Ok::<_, sqlx::Error>((row, middle, lacking))
        };
        let answer = timeout(LIMIT, asking)
            .await
            .unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
        let (
            (version, read_only, connections_max, connections, clock, forbidden, may_create),
            ours,
            lacking,
        ) = answer?;
        let ahead = clock.saturating_sub(ours.as_microsecond());
        Ok(PostgresDiagnosis {
            version,
            read_only,
            connections_max,
            connections,
            clock_ahead: SignedDuration::from_micros(ahead),
            lacking,
            forbidden,
            may_create,
        })
    }
}
