//! The address of the database, which may hold a password: it is never shown.

use std::{fmt, str::FromStr};

use sqlx::postgres::PgConnectOptions;

/// The address of a PostgreSQL database, such as `postgres://user:password@host:5432/holdfast`.
#[derive(Clone)]
pub struct DatabaseUrl(PgConnectOptions);

/// A text that is not the address of a PostgreSQL database. Does not show the text.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "must be the address of a PostgreSQL database, such as \
     postgres://user:password@host:5432/holdfast"
)]
pub struct NotADatabaseUrl;

impl DatabaseUrl {
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

impl FromStr for DatabaseUrl {
    type Err = NotADatabaseUrl;

    fn from_str(text: &str) -> Result<Self, NotADatabaseUrl> {
        // sqlx takes any scheme.
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(NotADatabaseUrl);
        }
        text.parse().map(Self).map_err(|_| NotADatabaseUrl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_when_they_are_read() {
        for good in ["postgres://u:p@h:5432/db", "postgresql://h/db?sslmode=require"] {
            assert!(good.parse::<DatabaseUrl>().is_ok(), "{good}");
        }
        for bad in
            ["", "h:5432", "mysql://h/db", "postgres://h:port/db", "postgres://h/db?sslmode=x"]
        {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let database: DatabaseUrl = "postgres://u:hunter2@h/db".parse().unwrap();
        assert!(!format!("{database:?}").contains("hunter2"));
    }
}
