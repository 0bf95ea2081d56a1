//! The servers of a database: one, or several of which one accepts writes.

use std::{
    fmt::Display,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use sqlx::{ConnectOptions as _, PgConnection, Row as _, postgres::PgConnectOptions};

/// A server that has not answered for so long is not waited for: the next one is tried beside it.
const NEXT_AFTER: Duration = Duration::from_millis(100);

/// The most servers of one database.
pub(crate) const SERVERS_MAX: usize = 16;

/// Where a database can be reached, and the settings of its sessions.
///
/// With several servers, a connection goes to one that accepts writes (`target_session_attrs=read-write`), unless `any`
/// was asked for.
#[derive(Clone, Debug)]
pub struct Servers {
    each: Vec<PgConnectOptions>,
    read_write: bool,
    /// The server that was connected to last.
    current: Arc<AtomicUsize>,
}

impl Servers {
    pub(crate) fn new(each: Vec<PgConnectOptions>, read_write: bool) -> Self {
        Self { each, read_write, current: Arc::default() }
    }

    pub(crate) fn application_name(self, name: &str) -> Self {
        self.map(|server| server.application_name(name))
    }

    /// Adds settings for each session.
    pub fn options<V>(self, settings: &[(&str, V)]) -> Self
    where
        V: Display,
    {
        self.map(|server| server.options(settings.iter().map(|(name, value)| (*name, value))))
    }

    fn map(self, change: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        let each = self.each.into_iter().map(change).collect();
        Self { each, ..self }
    }

    /// Where the database is, for people.
    pub(crate) fn place(&self) -> String {
        let server = |options: &PgConnectOptions| {
            options.get_socket().map_or_else(
                || format!("{}:{}", options.get_host(), options.get_port()),
                |socket| socket.display().to_string(),
            )
        };
        let servers: Vec<_> = self.each.iter().map(server).collect();
        let first = self.first();
        let database = first.get_database().unwrap_or_else(|| first.get_username());
        format!("PostgreSQL at {}, database {database}", servers.join(" or "))
    }

    /// The options of the first server.
    pub(crate) fn first(&self) -> PgConnectOptions {
        self.each.first().cloned().unwrap_or_default()
    }

    /// Whether connections lead to this server at present. Those that lead to another one are out of date: it may be a
    /// former primary.
    pub(crate) fn is_current(&self, server: usize) -> bool {
        self.current.load(Ordering::Relaxed) == server
    }

    /// Connects to the current server, or else to the first of the others that answers, which is the current one from
    /// then on. Returns its number, too. Gives up when all have failed; the caller limits the time. Dropping the future
    /// closes what has been opened.
    pub(crate) async fn connect(&self) -> Result<(PgConnection, usize), sqlx::Error> {
        let count = self.each.len();
        let current = self.current.load(Ordering::Relaxed);
        let mut attempts: FuturesUnordered<_> = (0_u32..)
            .zip((current..count).chain(0..current.min(count)))
            .map(|(turn, number)| async move {
                tokio::time::sleep(NEXT_AFTER * turn).await;
                (number, self.connect_to(number).await)
            })
            .collect();
        let mut failed = None;
        while let Some((number, result)) = attempts.next().await {
            match result {
                Ok(connection) => {
                    self.current.store(number, Ordering::Relaxed);
                    return Ok((connection, number));
                }
                // Of several failures the one that a person has to do something about is told.
                Err(error) => match &failed {
                    Some(sqlx::Error::Database(_)) => {}
                    _ => failed = Some(error),
                },
            }
        }
        Err(failed.unwrap_or(sqlx::Error::PoolClosed))
    }

    #[expect(clippy::disallowed_methods, reason = "called by `connections::set` only")]
    async fn connect_to(&self, number: usize) -> Result<PgConnection, sqlx::Error> {
        let server = self.each.get(number).ok_or(sqlx::Error::PoolClosed)?;
        let mut connection = server.connect().await?;
        if self.read_write {
            let row = sqlx::Executor::fetch_one(&mut connection, "SHOW transaction_read_only");
            if row.await?.try_get::<&str, _>(0)? == "on" {
                let message = format!("{} accepts no writes", server.get_host());
                return Err(sqlx::Error::Io(io::Error::new(
                    io::ErrorKind::ReadOnlyFilesystem,
                    message,
                )));
            }
        }
        Ok(connection)
    }
}
