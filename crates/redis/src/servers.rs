//! Makes connections to the Redis of a URL.

use std::{io, sync::Arc, time::Duration};

use holdfast_telemetry::settings::MustBe;
use redis::{
    AsyncConnectionConfig, Client, RedisError, RedisResult, TlsCertificates,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
};
use tokio::time::timeout;

use crate::RedisUrl;

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// For connecting, with all that belongs to it.
    pub connect: Duration,
    /// For the answer to a command.
    pub response: Duration,
}

/// A connection to the server that takes writes.
#[derive(Clone)]
pub struct ServerConnection {
    pub connection: MultiplexedConnection,
}

/// Where Redis is, and how it is verified. Cheap to clone.
#[derive(Clone)]
pub struct RedisServers(Arc<Client>);

impl RedisServers {
    /// Does not connect. With `rediss`, `ca` are certificates (PEM) of the authorities that verify the server; `None`: the
    /// system's authorities.
    ///
    /// # Errors
    /// The URL or the certificates cannot be used.
    pub fn new(url: &str, ca: Option<&[u8]>) -> Result<Self, MustBe> {
        let url: RedisUrl = url.parse()?;
        let info = url.info();
        let client = match ca {
            Some(ca) => {
                let root_cert = Some(ca.to_vec());
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
            }
            None => Client::open(info),
        };
        let client = client.map_err(|_| {
            MustBe::new("must be for a server that the given authorities can verify")
        })?;
        Ok(Self(Arc::new(client)))
    }

    /// Connects within the limit.
    ///
    /// If it is cancelled, there is no connection.
    ///
    /// # Errors
    /// No server takes the connection, or not in time.
    pub async fn connect(&self, limits: ConnectionLimits) -> RedisResult<ServerConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits.connect))
            .set_response_timeout(Some(limits.response));
        let connecting = self.0.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(limits.connect, connecting).await.map_err(late)??;
        Ok(ServerConnection { connection })
    }

    /// Subscribes to channels, on a connection of their own. Has no time limit.
    ///
    /// If it is cancelled, there is no subscription.
    ///
    /// # Errors
    /// No server takes the connection.
    pub async fn subscribe(&self, channels: &[String]) -> RedisResult<(PubSubSink, PubSubStream)> {
        let (mut sink, stream) = self.0.get_async_pubsub().await?.split();
        sink.subscribe(channels).await?;
        Ok((sink, stream))
    }
}

fn late(_: tokio::time::error::Elapsed) -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into()
}
