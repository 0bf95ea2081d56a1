//! Connections to real servers, Sentinels and clusters, including failovers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // what a test reads, it has made

mod cluster;
mod kinds;
mod passwords;
mod sentinel;
mod tls;

use std::{path::Path, time::Duration};

use holdfast_redis::{ConnectionLimits, RedisServers, SharedConnection};
use holdfast_sandbox::{RedisSentinels, until};
use redis::RedisResult;

/// Longer than in production, because the test machine may be busy.
const LIMITS: ConnectionLimits =
    ConnectionLimits { connect: Duration::from_secs(3), response: Duration::from_secs(3) };

fn servers(url: &str) -> RedisServers {
    RedisServers::new(url, None, "orders").unwrap()
}

fn shared(url: &str) -> SharedConnection {
    SharedConnection::new(servers(url), LIMITS)
}

/// The same over TLS. `ca` is the file of an authority.
fn shared_over_tls(url: &str, ca: &Path) -> SharedConnection {
    let ca = std::fs::read(ca).unwrap();
    SharedConnection::new(RedisServers::new(url, Some(&ca), "orders").unwrap(), LIMITS)
}

/// Writes a key with the hash tag, within the time limit of a call.
async fn set(connection: &SharedConnection, value: &str) -> Result<(), String> {
    let mut connection = connection.clone();
    let mut command = redis::cmd("SET");
    command.arg("holdfast:{orders}:test").arg(value);
    match tokio::time::timeout(LIMITS.response, command.exec_async(&mut connection)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Returns a connection that works.
async fn connected(url: &str) -> SharedConnection {
    working(shared(url)).await
}

async fn working(connection: SharedConnection) -> SharedConnection {
    until("the connection works", async || set(&connection, "first").await).await;
    connection
}

/// Returns the port of the connection's server.
async fn port(connection: &SharedConnection) -> RedisResult<u16> {
    let mut connection = connection.clone();
    let (_, port): (String, u16) =
        redis::cmd("CONFIG").arg("GET").arg("port").query_async(&mut connection).await?;
    Ok(port)
}

/// Waits until a write has reached the primary. The former primary may accept writes for a moment, and lose them.
async fn until_written(connection: &SharedConnection, group: &RedisSentinels, value: &str) {
    until("the primary has the value", async || {
        set(connection, value).await?;
        let primary = group.primary().await.map_err(|error| error.to_string())?;
        let answer = primary.command("GET holdfast:{orders}:test").await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.contains(value) { Ok(()) } else { Err(answer) }
    })
    .await;
}
