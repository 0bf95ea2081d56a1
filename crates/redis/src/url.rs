//! The address of Redis. It may contain passwords, and is never shown.

use std::{collections::HashSet, fmt, str::FromStr, sync::Arc};

use holdfast_telemetry::settings::MustBe;
use redis::{ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use url::{Host, Url, form_urlencoded};

/// The maximum length of a URL.
const BYTES_MAX: usize = 4096;
/// The maximum number of Sentinels or servers in a URL.
const HOSTS_MAX: usize = 32;
const SERVER: &str = "must be the address of a Redis server, such as redis://:password@host:6379/0";

#[derive(Clone)]
pub struct RedisUrl {
    text: String,
    target: Arc<RedisTarget>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The kind of server that the URL names.
#[derive(Clone)]
pub(crate) enum RedisTarget {
    /// One server, or a name that a provider directs to a server.
    One(ConnectionInfo),
    /// Sentinels, which know the primary of a service.
    Sentinels {
        hosts: Vec<HostPort>,
        tls: bool,
        service: String,
        /// The user and the password for the Sentinels.
        sentinel: RedisConnectionInfo,
        /// The user, the password and the database of the servers.
        server: RedisConnectionInfo,
    },
    /// Servers of a cluster.
    Cluster { hosts: Vec<HostPort>, tls: bool, server: RedisConnectionInfo },
}

impl RedisUrl {
    /// The URL with the passwords.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn target(&self) -> RedisTarget {
        RedisTarget::clone(&self.target)
    }

    /// A readable form of the URL without secrets.
    pub fn place(&self) -> String {
        let listed = |hosts: &[HostPort]| {
            let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            hosts.join(", ")
        };
        match &*self.target {
            RedisTarget::One(info) => {
                format!("Redis at {}, database {}", info.addr(), info.redis_settings().db())
            }
            RedisTarget::Sentinels { hosts, service, server, .. } => format!(
                "Redis service {service} of the Sentinels {}, database {}",
                listed(hosts),
                server.db()
            ),
            RedisTarget::Cluster { hosts, .. } => format!("Redis Cluster at {}", listed(hosts)),
        }
    }

    /// Whether the connection uses TLS.
    pub fn tls(&self) -> bool {
        self.text.starts_with("rediss")
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
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
        if text.len() > BYTES_MAX {
            return Err(MustBe::new(format!("must have at most {BYTES_MAX} bytes")));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let target = match scheme {
            "redis" | "rediss" => one(text)?,
            "redis+sentinel" | "rediss+sentinel" => sentinels(rest, scheme.starts_with("rediss"))?,
            "redis+cluster" | "rediss+cluster" => cluster(rest, scheme.starts_with("rediss"))?,
            _ => {
                return Err(MustBe::new(format!(
                    "{SERVER}, of Sentinels (redis+sentinel://) or of a cluster (redis+cluster://)"
                )));
            }
        };
        Ok(Self { text: text.to_owned(), target: target.into() })
    }
}

fn one(text: &str) -> Result<RedisTarget, MustBe> {
    let url = Url::parse(text).ok().filter(Url::has_host).ok_or_else(|| MustBe::new(SERVER))?;
    if url.host_str().is_some_and(|host| host.contains("%2C") || host.contains(',')) {
        return Err(MustBe::new(
            "must have one host; several are Sentinels (redis+sentinel://) or a cluster \
             (redis+cluster://)",
        ));
    }
    database(url.path())?;
    text.into_connection_info().map(RedisTarget::One).map_err(|_| MustBe::new(SERVER))
}

fn sentinels(rest: &str, tls: bool) -> Result<RedisTarget, MustBe> {
    let parts = UrlParts::split(rest)?;
    let (service, number) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    let service = decoded(service)?;
    if service.is_empty() || service.chars().any(|it| it.is_control() || it.is_whitespace()) {
        return Err(MustBe::new(
            "must name the service that the Sentinels watch, as in \
             redis+sentinel://host1:26379,host2:26379/service",
        ));
    }
    let mut sentinel = RedisConnectionInfo::default();
    for (name, value) in form_urlencoded::parse(parts.query.as_bytes()) {
        sentinel = match &*name {
            "sentinel_user" => sentinel.set_username(value),
            "sentinel_password" => sentinel.set_password(value),
            _ => {
                return Err(MustBe::new(
                    "must have no options but sentinel_user and sentinel_password after the ?",
                ));
            }
        };
    }
    if sentinel.username().is_some() && sentinel.password().is_none() {
        return Err(MustBe::new("must have sentinel_password if it has sentinel_user"));
    }
    let server = parts.server()?.set_db(database(number)?);
    Ok(RedisTarget::Sentinels { hosts: hosts(parts.hosts, 26379)?, tls, service, sentinel, server })
}

fn cluster(rest: &str, tls: bool) -> Result<RedisTarget, MustBe> {
    let parts = UrlParts::split(rest)?;
    if database(parts.path)? != 0 {
        return Err(MustBe::new("must not name a database: a Redis Cluster has only database 0"));
    }
    if !parts.query.is_empty() {
        return Err(MustBe::new("must have no options after the hosts of a cluster"));
    }
    Ok(RedisTarget::Cluster { hosts: hosts(parts.hosts, 6379)?, tls, server: parts.server()? })
}

/// The parts of a URL with several hosts, which the crate `url` does not support.
struct UrlParts<'a> {
    user: Option<&'a str>,
    hosts: &'a str,
    /// Without its first slash.
    path: &'a str,
    query: &'a str,
}

impl<'a> UrlParts<'a> {
    fn split(rest: &'a str) -> Result<Self, MustBe> {
        if rest.contains('#') {
            return Err(MustBe::new(
                "must not contain a #, because options of this kind do not exist for several \
                 hosts; write %23 for a # in a password",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if path.contains('@') {
            return Err(MustBe::new("must have %2F for each / in a password"));
        }
        Ok(Self { user, hosts, path, query })
    }

    /// The user and the password for the servers.
    fn server(&self) -> Result<RedisConnectionInfo, MustBe> {
        let mut info = RedisConnectionInfo::default();
        let Some(user) = self.user else { return Ok(info) };
        let (name, password) = user.split_once(':').ok_or_else(|| {
            MustBe::new("must have a password after the user, as in user:password@host")
        })?;
        if !name.is_empty() {
            info = info.set_username(decoded(name)?);
        }
        Ok(info.set_password(decoded(password)?))
    }
}

/// A path without its first slash: the number of a database, or nothing.
fn database(path: &str) -> Result<i64, MustBe> {
    match path.trim_start_matches('/') {
        "" => Ok(0),
        number => number.parse::<u32>().map(i64::from).map_err(|_| MustBe::new(SERVER)),
    }
}

fn decoded(text: &str) -> Result<String, MustBe> {
    let wrong = || MustBe::new("must be percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        bytes.push(value.and_then(|value| u8::try_from(value).ok()).ok_or_else(wrong)?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn hosts(text: &str, default_port: u16) -> Result<Vec<HostPort>, MustBe> {
    let hosts: Vec<_> =
        text.split(',').take(HOSTS_MAX + 1).map(|host| host_port(host, default_port)).collect();
    if hosts.len() > HOSTS_MAX {
        return Err(MustBe::new(format!("must have at most {HOSTS_MAX} hosts")));
    }
    let hosts = hosts.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
        MustBe::new("must have hosts with ports between commas, as in host1:26379,host2:26379")
    })?;
    // The majority is counted, so a host that is named twice would count twice.
    if hosts.iter().collect::<HashSet<_>>().len() < hosts.len() {
        return Err(MustBe::new("must name each host once"));
    }
    Ok(hosts)
}

fn host_port(text: &str, default_port: u16) -> Option<HostPort> {
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address without a port ends with a bracket.
        Some((host, port)) if !text.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default_port),
    };
    let host = match Host::parse(host).ok()? {
        Host::Domain(name) => {
            let letters = |it: char| it.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&it);
            name.chars().all(letters).then_some(name)
        }
        Host::Ipv4(address) => (!address.is_unspecified()).then(|| address.to_string()),
        Host::Ipv6(address) => (!address.is_unspecified()).then(|| address.to_string()),
    };
    host.filter(|_| port != 0).map(|host| HostPort { host, port })
}

#[cfg(test)]
mod tests;
