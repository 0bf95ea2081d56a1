//! Addresses of servers, which may hold passwords: they are never shown.

use std::{fmt, str::FromStr};

use holdfast_store::StoreSettings;
use holdfast_telemetry::settings::MustBe;
use reqwest::Url;

/// The address of the database.
#[derive(Clone)]
pub struct DatabaseUrl(StoreSettings);

impl DatabaseUrl {
    /// The store's settings for it, with defaults for the rest.
    pub fn settings(&self) -> StoreSettings {
        self.0.clone()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

impl FromStr for DatabaseUrl {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let must = || {
            MustBe::new(
                "must be the address of a PostgreSQL database, such as \
                 postgres://user:password@host:5432/holdfast",
            )
        };
        let url = Url::parse(text).map_err(|_| must())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(must());
        }
        StoreSettings::new(text).map(Self).map_err(|_| must())
    }
}

/// The address of Redis.
#[derive(Clone)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The address, password included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(…)")
    }
}

impl FromStr for RedisUrl {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let database =
            |path: &str| path.is_empty() || path == "/" || path[1..].parse::<u32>().is_ok();
        Url::parse(text)
            .ok()
            .filter(|url| url.scheme() == "redis" && url.has_host() && database(url.path()))
            .map(|_| Self(text.to_owned()))
            .ok_or_else(|| {
                MustBe::new(
                    "must be the address of a Redis server, such as redis://:password@host:6379/0",
                )
            })
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
        for good in ["redis://h", "redis://:p@h:6379/1"] {
            assert!(good.parse::<RedisUrl>().is_ok(), "{good}");
        }
        for bad in ["", "h:6379", "http://h", "redis://", "redis://h/x"] {
            assert!(bad.parse::<RedisUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let database: DatabaseUrl = "postgres://u:hunter2@h/db".parse().unwrap();
        let redis: RedisUrl = "redis://:hunter2@h".parse().unwrap();
        assert!(!format!("{database:?} {redis:?}").contains("hunter2"));
    }
}
