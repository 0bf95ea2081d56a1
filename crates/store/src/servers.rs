//! The servers of a database: one, or several of which one accepts writes.

use std::{fmt::Display, io, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection, Row as _, postgres::PgConnectOptions,
};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

/// If a server has not answered for this long, the next one is tried at the same time.
const NEXT_AFTER: Duration = Duration::from_millis(100);

/// If a statement takes this long, another server may have become the one that accepts writes.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// The longest wait for the other servers in that case.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// The most servers of one database.
pub(crate) const SERVERS_MAX: usize = 16;

/// Where a database can be reached, and the settings of its sessions.
///
/// With several servers, a connection goes to one that accepts writes (`target_session_attrs=read-write`), unless the
/// URL has `any`.
#[derive(Clone, Debug)]
pub struct Servers {
    each: Vec<PgConnectOptions>,
    read_write: bool,
    /// Settings of each session. They are set by a statement, because a pooler refuses or drops them in the startup
    /// message.
    session: Vec<(String, String)>,
    /// The server that was connected to last.
    current: Arc<watch::Sender<usize>>,
    /// Held by the call that looks for another server.
    looking: Arc<Mutex<()>>,
}

impl Servers {
    pub(crate) fn new(each: Vec<PgConnectOptions>, read_write: bool) -> Self {
        Self {
            each,
            read_write,
            session: Vec::new(),
            current: Arc::default(),
            looking: Arc::default(),
        }
    }

    /// Each server separately. A connection to it may be read-only.
    pub(crate) fn separately(&self) -> impl Iterator<Item = Self> {
        self.each.iter().map(|server| Self {
            session: self.session.clone(),
            ..Self::new(vec![server.clone()], false)
        })
    }

    pub(crate) fn application_name(self, name: &str) -> Self {
        let each = self.each.into_iter().map(|server| server.application_name(name));
        Self { each: each.collect(), ..self }
    }

    /// Adds settings for each session. A later value for the same setting replaces an earlier one.
    pub fn options<V>(mut self, settings: &[(&str, V)]) -> Self
    where
        V: Display,
    {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.to_string()));
        self.session.extend(settings);
        self
    }

    /// The location of the database, for messages.
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

    /// The options of the first server, with the settings of a session.
    pub(crate) fn first(&self) -> PgConnectOptions {
        let settings = self.session.iter().map(|(name, value)| (name, value));
        self.each.first().cloned().unwrap_or_default().options(settings)
    }

    /// Whether new connections lead to this server. Connections to another server are outdated, because that server may
    /// be a former primary.
    pub(crate) fn is_current(&self, server: usize) -> bool {
        self.each.len() == 1 || *self.current.borrow() == server
    }

    /// Waits until new connections lead to a server other than this one; `None` if there is no other. From time to
    /// time, one of the waiting calls checks whether another server accepts writes now. Safe to drop.
    pub(crate) fn left(&self, server: usize) -> Option<BoxFuture<'_, ()>> {
        let left = async move {
            let mut current = self.current.subscribe();
            tokio::select! {
                // It is not closed: `self` has the sender.
                _ = current.wait_for(|current| *current != server) => {}
                () = self.look_elsewhere(server) => {}
            }
        };
        (self.each.len() > 1).then(|| left.boxed())
    }

    async fn look_elsewhere(&self, server: usize) {
        loop {
            tokio::time::sleep(LOOK_AFTER).await;
            let Ok(_looking) = self.looking.try_lock() else { continue };
            let others = (0..self.each.len()).filter(|other| *other != server);
            // If the server does not have to accept writes, do not leave it because it is slow.
            let looks: FuturesUnordered<_> = others
                .filter(|_| self.read_write)
                .map(async |other| self.connect_to(other).await.map(|_connection| other))
                .collect();
            let found = looks.filter_map(async |found| found.ok());
            if let Ok(Some(other)) = timeout(LOOK_LIMIT, pin!(found).next()).await {
                self.move_to(other);
                return;
            }
        }
    }

    fn move_to(&self, server: usize) {
        self.current.send_if_modified(|current| std::mem::replace(current, server) != server);
    }

    /// Connects to the current server, or else to the first of the others that answers, which then becomes the current
    /// one. Also returns its number. Gives up when all have failed; the caller limits the time. Dropping the future
    /// closes all opened connections.
    pub(crate) async fn connect(&self) -> Result<(PgConnection, usize), sqlx::Error> {
        let count = self.each.len();
        let current = *self.current.borrow();
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
                    self.move_to(number);
                    return Ok((connection, number));
                }
                Err(error) => match &failed {
                    Some(earlier) if relevance(earlier) >= relevance(&error) => {}
                    _ => failed = Some(error),
                },
            }
        }
        Err(failed.unwrap_or(sqlx::Error::PoolClosed))
    }

    #[expect(clippy::disallowed_methods, reason = "its callers belong to `connections`")]
    async fn connect_to(&self, number: usize) -> Result<PgConnection, sqlx::Error> {
        let server = self.each.get(number).ok_or(sqlx::Error::PoolClosed)?;
        let mut connection = server.connect().await.map_err(PoolerError::or)?;
        // Both statements are sent in one message. The settings are our own, and their values are quoted.
        let begin = sqlx::raw_sql(sqlx::AssertSqlSafe(self.begin_session()));
        let mut rows = connection.fetch_all(begin).await?.into_iter();
        let before = rows.next().ok_or(sqlx::Error::RowNotFound)?;
        if before.try_get::<bool, _>("used")? {
            return Err(PoolerError::SharedSession.into());
        }
        if self.read_write && before.try_get::<bool, _>("read_only")? {
            let message = format!("{} accepts no writes", server.get_host());
            return Err(sqlx::Error::Io(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                message,
            )));
        }
        Ok(connection)
    }

    /// The first statements of a session.
    ///
    /// - A commit on this connection is on disk before it is answered, even if the server, the database or the role
    ///   sets `synchronous_commit = off`. Their settings for standbys stay.
    /// - Tables are looked up in the schema `public` if the `search_path` contains no schema for tables.
    /// - If this has already been executed in the session, the session also belongs to another connection: see
    ///   [`PoolerError`].
    fn begin_session(&self) -> String {
        let settings: String =
            self.session.iter().map(|(name, value)| set_config(name, value)).collect();
        format!(
            "SELECT coalesce(current_setting('{MARK}', true), '') <> '' AS used, \
                 current_setting('transaction_read_only')::boolean AS read_only; \
             SELECT {settings} \
                 CASE WHEN current_setting('synchronous_commit') = 'off' \
                     THEN set_config('synchronous_commit', 'on', false) END, \
                 CASE WHEN coalesce(current_schema(), 'pg_catalog') = 'pg_catalog' \
                     THEN set_config('search_path', 'public', false) END, \
                 set_config('{MARK}', 'on', false)"
        )
    }
}

/// How much an error matters to a user. Of the errors of several servers, the one with the highest number is returned.
fn relevance(error: &sqlx::Error) -> u8 {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            // The server is a standby, as it should be.
            io::ErrorKind::ReadOnlyFilesystem => 0,
            // A certificate, or an answer that is not TLS.
            io::ErrorKind::InvalidData => 2,
            // A server or a network is down.
            _ => 1,
        },
        // A password or database was refused, a file of certificates is wrong, or a pooler.
        _ => 2,
    }
}

/// A setting that shows that a connection of ours has begun the session.
const MARK: &str = "holdfast.session";

fn set_config(name: &str, value: &str) -> String {
    let value = value.replace('\'', "''");
    format!("set_config('{name}', '{value}', false), ")
}

/// A pooler between Holdfast and PostgreSQL with a configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolerError {
    #[error(
        "connections do not have sessions of their own: PgBouncer needs `pool_mode = session` and \
         `server_reset_query = DISCARD ALL`, or connect to PostgreSQL directly"
    )]
    SharedSession,
    #[error(
        "the pooler refuses the startup message: PgBouncer needs \
         `ignore_startup_parameters = extra_float_digits`"
    )]
    StartupParameter(#[source] sqlx::Error),
}

impl PoolerError {
    /// The error of a failed connection, with advice if a pooler is the cause.
    fn or(error: sqlx::Error) -> sqlx::Error {
        match &error {
            sqlx::Error::Database(refused)
                if refused.message().starts_with("unsupported startup parameter") =>
            {
                Self::StartupParameter(error).into()
            }
            _ => error,
        }
    }
}

impl From<PoolerError> for sqlx::Error {
    fn from(error: PoolerError) -> Self {
        Self::Configuration(Box::new(error))
    }
}
