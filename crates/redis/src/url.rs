//! The URL of Redis. It may contain a password, and is never shown.

use std::{fmt, str::FromStr, sync::Arc};

use holdfast_telemetry::settings::MustBe;
use redis::{ConnectionInfo, IntoConnectionInfo};
use url::Url;

#[derive(Clone)]
pub struct RedisUrl {
    text: String,
    info: Arc<ConnectionInfo>,
}

impl RedisUrl {
    /// The URL with the password.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As redis-rs wants it.
    pub(crate) fn info(&self) -> ConnectionInfo {
        ConnectionInfo::clone(&self.info)
    }

    /// Where Redis is, for people: host, port and database, and nothing secret.
    pub fn place(&self) -> String {
        let url = Url::parse(&self.text).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let port = url.as_ref().and_then(Url::port).unwrap_or(6379);
        let database = url.as_ref().map_or("", |url| url.path().trim_start_matches('/'));
        let database = if database.is_empty() { "0" } else { database };
        format!("Redis at {host}:{port}, database {database}")
    }

    /// Whether the connection uses TLS.
    pub fn tls(&self) -> bool {
        self.text.starts_with("rediss:")
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
            .filter(|url| {
                matches!(url.scheme(), "redis" | "rediss") && url.has_host() && database(url.path())
            })
            .and_then(|_| text.into_connection_info().ok())
            .map(|info| Self { text: text.to_owned(), info: info.into() })
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
    fn urls_are_checked_when_they_are_parsed() {
        for good in ["redis://h", "redis://:p@h:6379/1", "rediss://h"] {
            assert!(good.parse::<RedisUrl>().is_ok(), "{good}");
        }
        for bad in ["", "h:6379", "http://h", "redis://", "redis://h/x"] {
            assert!(bad.parse::<RedisUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let redis: RedisUrl = "redis://:hunter2@h".parse().unwrap();
        assert!(!format!("{redis:?}").contains("hunter2"));
        assert_eq!(redis.place(), "Redis at h:6379, database 0");
    }
}
