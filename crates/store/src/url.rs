//! The URL of the database. It may contain a password, and is never shown.

use std::{fmt, str::FromStr};

use crate::servers::{SERVERS_MAX, Servers};

const ATTRIBUTE: &str = "target_session_attrs";

/// The address of a PostgreSQL database, such as `postgres://user:password@host:5432/holdfast`.
///
/// As in libpq, it may name several servers: `postgres://user@a:5432,b:5432/holdfast`. Connections go to the one that
/// accepts writes (`target_session_attrs=read-write`, the default for several servers), or with
/// `target_session_attrs=any` to the first that answers.
#[derive(Clone)]
pub struct DatabaseUrl(Servers);

/// The text is not a valid URL of a PostgreSQL database. The error does not show the text.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum NotADatabaseUrl {
    /// It is not a URL of a PostgreSQL database.
    #[error(
        "must be the address of a PostgreSQL database, such as \
         postgres://user:password@host:5432/holdfast"
    )]
    Address,
    /// Too many servers.
    #[error("names more than {SERVERS_MAX} servers")]
    TooMany,
    /// Holdfast writes, so it needs a server that accepts writes.
    #[error("target_session_attrs must be read-write, primary or any")]
    Target,
}

/// The standbys of the database, such as `postgres://user:password@host1:5432,host2:5432/holdfast`.
#[derive(Clone)]
pub struct DatabaseReadUrl(Servers);

/// The text is not a valid URL of standbys. The error does not show the text.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum NotADatabaseReadUrl {
    /// It is not a valid URL of a database.
    #[error(transparent)]
    Database(#[from] NotADatabaseUrl),
    /// Standbys accept no writes.
    #[error(
        "must name standbys: target_session_attrs may be standby, prefer-standby, read-only or any"
    )]
    Target,
}

impl DatabaseUrl {
    pub(crate) fn servers(&self) -> &Servers {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

impl DatabaseReadUrl {
    /// The standbys. Each is used separately.
    pub(crate) fn servers(&self) -> &Servers {
        &self.0
    }

    /// The number of standbys.
    pub fn count(&self) -> usize {
        self.0.separately().count()
    }
}

impl fmt::Debug for DatabaseReadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseReadUrl(…)")
    }
}

impl FromStr for DatabaseReadUrl {
    type Err = NotADatabaseReadUrl;

    fn from_str(text: &str) -> Result<Self, NotADatabaseReadUrl> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let mut parameters = Vec::new();
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some((ATTRIBUTE, "standby" | "prefer-standby" | "read-only" | "any")) => {}
                Some((ATTRIBUTE, _)) => return Err(NotADatabaseReadUrl::Target),
                _ => parameters.push(parameter),
            }
        }
        let url: DatabaseUrl = format!("{address}?{}", parameters.join("&")).parse()?;
        Ok(Self(url.0))
    }
}

impl FromStr for DatabaseUrl {
    type Err = NotADatabaseUrl;

    fn from_str(text: &str) -> Result<Self, NotADatabaseUrl> {
        // sqlx accepts any scheme.
        let (scheme, rest) = text.split_once("://").ok_or(NotADatabaseUrl::Address)?;
        if scheme != "postgres" && scheme != "postgresql" {
            return Err(NotADatabaseUrl::Address);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let hosts: Vec<_> = hosts.split(',').collect();
        if hosts.len() > SERVERS_MAX {
            return Err(NotADatabaseUrl::TooMany);
        }

        let mut read_write = hosts.len() > 1;
        let mut parameters = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some((ATTRIBUTE, "read-write" | "primary")) => read_write = true,
                Some((ATTRIBUTE, "any")) => read_write = false,
                Some((ATTRIBUTE, _)) => return Err(NotADatabaseUrl::Target),
                _ => parameters.push(parameter),
            }
        }

        let at = if user.is_empty() { "" } else { "@" };
        let query = parameters.join("&");
        let address = |host| format!("{scheme}://{user}{at}{host}/{path}?{query}").parse();
        let each: Result<_, sqlx::Error> = hosts.iter().map(address).collect();
        let several = hosts.len() > 1;
        if several && hosts.iter().any(|host| host.is_empty()) {
            return Err(NotADatabaseUrl::Address);
        }
        each.map(|each| Self(Servers::new(each, read_write))).map_err(|_| NotADatabaseUrl::Address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_when_they_are_parsed() {
        let good = [
            "postgres://u:p@h:5432/db",
            "postgresql://h/db?sslmode=require",
            "postgres://u:p@a:5432,b:5433,[::1]:5434/db?target_session_attrs=read-write&sslmode=disable",
            "postgres://a,b/db?target_session_attrs=any",
            "postgres://u%2C:p%40@a,b/db?target_session_attrs=primary",
        ];
        for good in good {
            assert!(good.parse::<DatabaseUrl>().is_ok(), "{good}");
        }
        let bad = [
            "",
            "h:5432",
            "mysql://h/db",
            "postgres://h:port/db",
            "postgres://h/db?sslmode=x",
            "postgres://a,/db",
            "postgres://a,b:port/db",
            "postgres://a,b/db?target_session_attrs=standby",
            "postgres://a,b/db?target_session_attrs=",
        ];
        for bad in bad {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_of_standbys_are_checked_when_they_are_parsed() {
        let good = [
            ("postgres://u:p@h/db", 1),
            ("postgres://u:p@a,b:5433/db?sslmode=disable&target_session_attrs=standby", 2),
            ("postgres://a,b,c/db?target_session_attrs=any", 3),
        ];
        for (good, count) in good {
            assert_eq!(
                good.parse::<DatabaseReadUrl>().map(|url| url.count()).ok(),
                Some(count),
                "{good}"
            );
        }
        let bad = [
            "",
            "h:5432",
            "postgres://a,/db",
            "postgres://a,b/db?target_session_attrs=read-write",
            "postgres://a,b/db?target_session_attrs=primary",
        ];
        for bad in bad {
            assert!(bad.parse::<DatabaseReadUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let database: DatabaseUrl = "postgres://u:hunter2@h/db".parse().unwrap();
        assert!(!format!("{database:?}").contains("hunter2"));
        let standbys: DatabaseReadUrl = "postgres://u:hunter2@h/db".parse().unwrap();
        assert!(!format!("{standbys:?}").contains("hunter2"));
    }
}
