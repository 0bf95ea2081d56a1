//! Opens connections to the Redis servers that a URL names.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast_telemetry::settings::MustBe;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
};
use tokio::time::timeout;

use crate::{
    RedisUrl, ServerInfo, cluster,
    discovery::{PrimaryDiscovery, PrimaryQuestion, Trust, open, unusable},
    url::{HostPort, RedisTarget},
};

/// The interval between checks for a new primary.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// For connecting, which includes finding the server and asking for its role.
    pub connect: Duration,
    /// For the answer to a command.
    pub response: Duration,
}

/// A connection to the server that accepts writes.
#[derive(Clone)]
pub struct ServerConnection {
    pub connection: MultiplexedConnection,
    pub info: Arc<ServerInfo>,
    pub address: ServerAddress,
}

/// The address of the server of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress(Option<HostPort>);

/// A subscription, and the server that it is on.
pub struct Subscription {
    pub sink: PubSubSink,
    pub stream: PubSubStream,
    pub address: ServerAddress,
}

/// Where Redis is, and how it is verified. Cheap to clone.
#[derive(Clone)]
pub struct RedisServers(Arc<Reach>);

enum Reach {
    One(Client),
    Found { discovery: PrimaryDiscovery, cluster: bool, watched: AtomicBool },
}

impl RedisServers {
    /// Does not connect. With `rediss`, the servers are verified with the CA certificates `ca` (PEM), or with the
    /// system's if it is `None`. In a Redis Cluster, `tag` is the hash tag of all keys that are used through these connections.
    ///
    /// # Errors
    /// The URL or the certificates cannot be used.
    pub fn new(url: &str, ca: Option<&[u8]>, tag: &str) -> Result<Self, MustBe> {
        let url: RedisUrl = url.parse()?;
        let trust = |tls| Trust { tls, ca: ca.filter(|_| tls).map(<[u8]>::to_vec) };
        let found = |discovery, cluster| Reach::Found { discovery, cluster, watched: false.into() };
        let reach = match url.target() {
            RedisTarget::One(info) => Reach::One(open(info, ca).map_err(|_| unusable())?),
            RedisTarget::Sentinels { hosts, tls, service, sentinel, server } => {
                let question = PrimaryQuestion::Service(service);
                found(
                    PrimaryDiscovery::new((hosts, &sentinel), question, server, trust(tls))?,
                    false,
                )
            }
            RedisTarget::Cluster { hosts, tls, server } => {
                let question = PrimaryQuestion::Slot(cluster::slot(tag));
                found(
                    PrimaryDiscovery::new((hosts, &server.clone()), question, server, trust(tls))?,
                    true,
                )
            }
        };
        Ok(Self(Arc::new(reach)))
    }

    /// Whether all keys must have the hash tag.
    pub fn is_cluster(&self) -> bool {
        matches!(*self.0, Reach::Found { cluster: true, .. })
    }

    /// Whether another server may become the primary. That server may lack the last writes.
    pub fn can_fail_over(&self) -> bool {
        matches!(*self.0, Reach::Found { .. })
    }

    /// Connects to the server that accepts writes, within the limit.
    ///
    /// If this is cancelled, no connection stays open.
    ///
    /// # Errors
    /// No server accepts the connection in time, or the server is not of the kind that the URL names.
    pub async fn connect(&self, limits: ConnectionLimits) -> RedisResult<ServerConnection> {
        let connecting = async {
            let (client, address) = self.find().await?;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(limits.connect))
                .set_response_timeout(Some(limits.response));
            let mut connection =
                client.get_multiplexed_async_connection_with_config(&config).await?;
            let info = ServerInfo::ask(&mut connection).await?;
            self.check(&info)?;
            Ok(ServerConnection { connection, info: info.into(), address: ServerAddress(address) })
        };
        timeout(limits.connect, connecting).await.map_err(late)?
    }

    /// Subscribes to channels on a separate connection. Has no time limit.
    ///
    /// If this is cancelled, no subscription stays open.
    ///
    /// # Errors
    /// No server accepts the connection.
    pub async fn subscribe(&self, channels: &[String]) -> RedisResult<Subscription> {
        let (client, address) = self.find().await?;
        let (mut sink, stream) = client.get_async_pubsub().await?.split();
        sink.subscribe(channels).await?;
        Ok(Subscription { sink, stream, address: ServerAddress(address) })
    }

    async fn find(&self) -> RedisResult<(Client, Option<HostPort>)> {
        match &*self.0 {
            Reach::One(client) => Ok((client.clone(), None)),
            Reach::Found { discovery, .. } => {
                self.watch();
                let (client, address) = discovery.find().await?;
                Ok((client, Some(address)))
            }
        }
    }

    /// Whether no other server has been found since the connection was opened.
    pub fn is_current(&self, connection: &ServerConnection) -> bool {
        match &*self.0 {
            Reach::One(_) => true,
            Reach::Found { discovery, .. } => *discovery.known().borrow() == connection.address.0,
        }
    }

    /// Waits until another server than this one is found. Safe to cancel.
    pub async fn replaced(&self, address: &ServerAddress) {
        if let Reach::Found { discovery, .. } = &*self.0 {
            let mut known = discovery.known().subscribe();
            // Cannot fail, because `self` keeps the sender.
            let _ = known.wait_for(|known| *known != address.0).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    fn check(&self, info: &ServerInfo) -> RedisResult<()> {
        let wrong = match &*self.0 {
            _ if info.sentinel => "the server is a Sentinel: write redis+sentinel:// in the URL",
            Reach::One(_) if info.cluster => {
                "the server is part of a Redis Cluster: write redis+cluster:// in the URL"
            }
            Reach::Found { cluster: true, .. } if !info.cluster => {
                "the server is not part of a Redis Cluster"
            }
            // A single server is not checked: it answers READONLY to writes.
            Reach::Found { .. } if info.replica => "the server is a replica, not the primary",
            _ => return Ok(()),
        };
        Err((ErrorKind::InvalidClientConfig, wrong).into())
    }

    /// Looks for the primary once per interval, so that a connection to a former primary is replaced even if its calls
    /// succeed: a server that was frozen or cut off may answer for a while as if it were still the primary.
    fn watch(&self) {
        let Reach::Found { watched, .. } = &*self.0 else { return };
        if watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let servers = Arc::downgrade(&self.0);
        tokio::spawn(watch(servers));
    }
}

async fn watch(servers: Weak<Reach>) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(servers) = servers.upgrade() else { return };
        if let Reach::Found { discovery, .. } = &*servers {
            // A failure changes nothing, and was logged.
            let _ = discovery.find().await;
        }
    }
}

fn late(_: tokio::time::error::Elapsed) -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "timed out while connecting").into()
}
