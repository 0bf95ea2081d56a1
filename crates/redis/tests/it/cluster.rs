//! A Redis Cluster.

use holdfast_sandbox::{Redis, RedisCluster, until};
use redis::{Script, aio::ConnectionLike};

use crate::{connected, port, set};

async fn found<'a>(cluster: &'a RedisCluster, connection: &crate::SharedConnection) -> &'a Redis {
    let port = port(connection).await.unwrap();
    cluster.servers().iter().find(|server| server.port() == port).unwrap()
}

#[tokio::test]
async fn a_connection_leads_to_the_server_with_the_slot_and_follows_it() {
    let cluster = RedisCluster::start().await.unwrap();
    let connection = connected(&cluster.url()).await;
    // Commands, scripts and pipelines with many keys.
    let mut pipe = redis::pipe();
    for number in 0..10 {
        pipe.cmd("INCR").arg(format!("holdfast:{{orders}}:{number}")).ignore();
    }
    pipe.exec_async(&mut connection.clone()).await.unwrap();
    let script = Script::new("return redis.call('MGET', KEYS[1], KEYS[2])");
    let mut call = script.key("holdfast:{orders}:1");
    let both: (u8, u8) =
        call.key("holdfast:{orders}:2").invoke_async(&mut connection.clone()).await.unwrap();
    assert_eq!((both, connection.get_db()), ((1, 1), 0));
    // The server is killed, and its replica replaces it.
    let first = found(&cluster, &connection).await;
    first.kill9().await.unwrap();
    until("the new primary takes a write", async || set(&connection, "second").await).await;
    assert_ne!(found(&cluster, &connection).await.port(), first.port());
}

#[tokio::test]
async fn a_primary_that_is_switched_over_is_left() {
    let cluster = RedisCluster::start().await.unwrap();
    let connection = connected(&cluster.url()).await;
    let first = found(&cluster, &connection).await;
    let number = cluster.servers().iter().position(|it| it.port() == first.port()).unwrap();
    let answer = cluster.servers()[number + 3].command("CLUSTER FAILOVER").await.unwrap();
    assert_eq!(answer.trim_end(), "+OK");
    until("another server takes the writes", async || {
        set(&connection, "second").await?;
        let now = port(&connection).await.map_err(|error| error.to_string())?;
        if now == first.port() { Err("still the first".to_owned()) } else { Ok(()) }
    })
    .await;
}
