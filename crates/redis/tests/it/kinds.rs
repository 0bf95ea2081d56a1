//! Servers that are not of the kind that the URL names, that accept no writes, or that do not answer.

use holdfast_sandbox::{Redis, RedisCluster, RedisOptions, RedisSentinels, until};

use crate::{LIMITS, connected, servers, set};

async fn refusal(url: &str) -> String {
    servers(url).connect(LIMITS).await.err().expect("the server was accepted").to_string()
}

#[tokio::test]
async fn a_server_of_another_kind_is_refused_with_the_right_scheme() {
    let single = Redis::start(RedisOptions::default()).await.unwrap();
    let group = RedisSentinels::start(&[], "").await.unwrap();
    let cluster = RedisCluster::start().await.unwrap();
    let single = single.url().replace("redis://", "");
    let (sentinel, node) = (&group.hosts()[0], cluster.servers()[0].port());
    for (url, says) in [
        (format!("redis://{sentinel}"), "redis+sentinel://"),
        (format!("redis://127.0.0.1:{node}"), "redis+cluster://"),
        (format!("redis+sentinel://{single}/orders"), "not a Sentinel"),
        (format!("redis+sentinel://{sentinel}/wrong"), "does not watch the service"),
        (format!("redis+cluster://{single}"), "cluster"),
    ] {
        let refusal = refusal(&url).await;
        assert!(refusal.contains(says), "{url}: {refusal}");
    }
}

#[tokio::test]
async fn a_server_that_has_become_a_replica_is_left_at_once() {
    let server = Redis::start(RedisOptions::default()).await.unwrap();
    let connection = connected(&server.url()).await;
    let received = async || -> u32 {
        let info = server.command("INFO stats").await.unwrap();
        let line = info.lines().find_map(|it| it.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    };
    server.command("REPLICAOF 127.0.0.1 1").await.unwrap();
    let before = received().await;
    let error = set(&connection, "second").await.unwrap_err();
    assert!(error.contains("read only replica"), "{error}");
    server.command("REPLICAOF NO ONE").await.unwrap();
    set(&connection, "third").await.unwrap();
    // `REPLICAOF NO ONE` and `INFO` open a connection each, and the client opened a new one.
    assert_eq!(received().await, before + 3);
}

#[tokio::test]
async fn a_call_without_an_answer_leaves_the_connection() {
    let server = Redis::start(RedisOptions::default()).await.unwrap();
    let connection = connected(&server.url()).await;
    let client = server.command("CLIENT LIST TYPE normal").await.unwrap();
    server.pause().unwrap();
    set(&connection, "second").await.unwrap_err();
    server.resume().unwrap();
    until("a new connection is made", async || set(&connection, "third").await).await;
    let id =
        |list: &str| list.split("id=").nth(1).map(|it| it.split(' ').next().unwrap().to_owned());
    let now = server.command("CLIENT LIST TYPE normal").await.unwrap();
    assert_ne!(id(&client), id(&now), "{now}");
}
