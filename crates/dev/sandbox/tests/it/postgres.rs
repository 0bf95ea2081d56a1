use std::time::Duration;

use holdfast_sandbox::{Postgres, PostgresOptions, shared_postgres};
use sqlx::{Connection as _, Executor as _, PgConnection};

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

#[tokio::test]
async fn two_clusters_run_in_parallel_and_share_nothing() {
    let (one, other) = tokio::join!(
        Postgres::start(PostgresOptions::default()),
        Postgres::start(PostgresOptions::default())
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.port(), other.port());
    connect(&one.url()).await.execute("CREATE TABLE here (id int)").await.unwrap();
    let there: bool = sqlx::query_scalar("SELECT to_regclass('here') IS NOT NULL")
        .fetch_one(&mut connect(&other.url()).await)
        .await
        .unwrap();
    assert!(!there);
}

#[tokio::test]
async fn each_database_is_new_and_a_template_is_filled_once() {
    let postgres = shared_postgres().await.unwrap();
    let fill = async |url: String| {
        let mut connection = PgConnection::connect(&url).await?;
        connection.execute("CREATE TABLE filled (id int)").await?;
        connection.close().await?;
        Ok(())
    };
    let empty = postgres.create_database().await.unwrap();
    let copy = postgres.create_database_from("filled", fill).await.unwrap();
    let second =
        postgres.create_database_from("filled", async |_| panic!("filled twice")).await.unwrap();
    assert_ne!(copy, second);
    for (url, expected) in [(empty, false), (copy, true), (second, true)] {
        let filled: bool = sqlx::query_scalar("SELECT to_regclass('filled') IS NOT NULL")
            .fetch_one(&mut connect(&url).await)
            .await
            .unwrap();
        assert_eq!(filled, expected, "{url}");
    }
}

#[tokio::test]
async fn a_crash_keeps_port_and_commits_and_loses_connections() {
    let options = PostgresOptions { durable: true, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).await.unwrap();
    let url = postgres.create_database().await.unwrap();
    let mut connection = connect(&url).await;
    connection.execute("CREATE TABLE kept (id int)").await.unwrap();
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.unwrap();
    assert_eq!(fsync, "on");

    postgres.kill9().await.unwrap();
    assert!(connection.ping().await.is_err());
    assert!(PgConnection::connect(&url).await.is_err());
    assert!(postgres.kill9().await.is_err(), "it is down");

    postgres.restart().await.unwrap();
    connect(&url).await.execute("INSERT INTO kept VALUES (1)").await.unwrap();
    postgres.restart().await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&mut connect(&url).await)
        .await
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_paused_server_hangs_and_continues() {
    let postgres = Postgres::start(PostgresOptions::default()).await.unwrap();
    let mut connection = connect(&postgres.url()).await;
    postgres.pause().await.unwrap();
    let ping = tokio::time::timeout(Duration::from_millis(200), connection.ping()).await;
    assert!(ping.is_err(), "an open connection must hang, and got {ping:?}");
    let new =
        tokio::time::timeout(Duration::from_millis(200), PgConnection::connect(&postgres.url()));
    assert!(new.await.is_err(), "a new connection must hang");
    postgres.resume().await.unwrap();
    connect(&postgres.url()).await.ping().await.unwrap();
}

#[tokio::test]
async fn a_standby_follows_its_primary_and_accepts_writes_after_promotion() {
    let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
    let standby = primary.standby().await.unwrap();
    connect(&primary.url()).await.execute("CREATE TABLE later (id int)").await.unwrap();
    // An orderly shutdown, which sends everything to the standby first.
    primary.shutdown().await.unwrap();
    let mut session = connect(&standby.url()).await;
    let refused = session.execute("INSERT INTO later VALUES (1)").await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "25006");
    standby.promote().await.unwrap();
    session.execute("INSERT INTO later VALUES (1)").await.unwrap();
}
