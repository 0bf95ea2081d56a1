//! Errors of the database, sorted by what a caller can do about them.

use crate::servers::PoolerError;

/// Why a call on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A row was locked for longer than `lock_timeout`. Nothing was changed; trying again may work.
    #[error("a row stayed locked for longer than the lock timeout")]
    LockTimeout(#[source] sqlx::Error),
    /// A statement took longer than `statement_timeout`. Nothing was changed.
    #[error("a statement took longer than the statement timeout")]
    Timeout(#[source] sqlx::Error),
    /// No connection of the pool became free in time. Nothing was changed.
    #[error("no database connection became free in time")]
    Busy(#[source] sqlx::Error),
    /// Too many changes are waiting for locked rows. Nothing was changed.
    #[error("too many changes wait for locked rows")]
    TooManyWaiting,
    /// The database cannot be reached, does not answer, is starting or stopping, has no connection left, does not
    /// accept writes, or has rolled back the transaction because of other transactions.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Another transaction has taken an idempotency key of the batch in the meantime. Nothing was changed; the key is
    /// found when the batch is retried.
    #[error("an idempotency key was taken by another transaction")]
    KeyTaken,
    /// The connection was lost during a commit, or during a change of one statement. The change may or may not have
    /// been made.
    #[error("the outcome of a change is unknown")]
    Unanswered(#[source] sqlx::Error),
    /// The database contains a value that the rules of the domain forbid.
    #[error("the database contains an invalid {what}: {reason}")]
    Corrupt {
        /// The kind of value.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else: a bug in Holdfast or in the schema.
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the same call may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Unanswered(_) | Self::Corrupt { .. } | Self::Database(_))
    }

    /// Whether a pooler in front of the database has a configuration that cannot work, so that waiting does not help.
    pub fn is_pooler(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(sqlx::Error::Configuration(cause)) if cause.is::<PoolerError>()
        )
    }

    /// Whether the database is not available, as opposed to a refused statement.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// For an error of a commit.
pub(crate) fn unanswered(error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Unavailable(error) => StoreError::Unanswered(error),
        refused => refused,
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy(error),
            sqlx::Error::AnyDriverError(inner) if inner.is::<Unanswered>() => {
                Self::Unanswered(error)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Configuration(cause) if cause.is::<PoolerError>() => {
                Self::Unavailable(error)
            }
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // https://www.postgresql.org/docs/15/errcodes-appendix.html
                Some("55P03") => Self::LockTimeout(error),
                Some("57014") => Self::Timeout(error),
                // Classes 08 connection, 53 resources, 57P shutdown and start, 40 rollback by the server (deadlock,
                // serialization); 25006 the session is read-only, 25P03 the transaction was idle for too long.
                Some(code)
                    if code.starts_with("08")
                        || code.starts_with("53")
                        || code.starts_with("57P")
                        || code.starts_with("40")
                        || code == "25006"
                        || code == "25P03" =>
                {
                    Self::Unavailable(error)
                }
                _ => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

/// A change was sent, and its session was lost before the answer. The change may or may not have been made.
#[derive(Debug, thiserror::Error)]
#[error("a change was not answered")]
pub(crate) struct Unanswered(#[source] sqlx::Error);

impl Unanswered {
    pub fn wrap(error: sqlx::Error) -> sqlx::Error {
        sqlx::Error::AnyDriverError(Box::new(Self(error)))
    }
}

/// Whether the session does not accept writes.
pub(crate) fn is_read_only(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("25006"))
}

/// Whether a lock could not be acquired in time.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

pub(crate) trait ChangeError: From<StoreError> {
    /// Whether the session does not accept writes.
    fn is_read_only(&self) -> bool;

    /// Whether a row was locked for too long.
    fn is_lock_timeout(&self) -> bool;
}

impl ChangeError for StoreError {
    fn is_read_only(&self) -> bool {
        matches!(self, Self::Unavailable(error) if is_read_only(error))
    }

    fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::LockTimeout(_))
    }
}
