//! Moving to a newer major version of PostgreSQL while clients order. With one installed version, both servers have it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use holdfast_chaos::environment::{Environment, EnvironmentOptions};
use holdfast_sandbox::{PATIENCE, Postgres, PostgresOptions, PostgresVersion};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::process::Command;

async fn script(step: &str, old: &str, new: &str) -> Result<String, String> {
    script_in(60, step, old, new).await
}

/// `switch` waits for this many seconds.
async fn script_in(limit: u32, step: &str, old: &str, new: &str) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let run = Command::new(root.join("scripts/major-upgrade"))
        .arg(step)
        .env("DATABASE_URL", old)
        .env("NEW_DATABASE_URL", new)
        .env("LIMIT", limit.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    Err(format!("{output:?}"))
}

/// An environment whose PostgreSQL can be followed by logical replication, and an empty database on a newer server.
async fn before(options: EnvironmentOptions) -> (Environment, Postgres, String) {
    let options = EnvironmentOptions { postgres: PostgresVersion::Oldest, ..options };
    let next = PostgresOptions { durable: true, ..PostgresOptions::default() };
    let starting = Box::pin(Environment::start(&options));
    let (environment, next) = tokio::try_join!(starting, Postgres::start(next)).unwrap();
    let mut connection = environment.connect().await.unwrap();
    connection.execute("ALTER SYSTEM SET wal_level = logical").await.unwrap();
    let url = next.ensure_database("holdfast").await.unwrap();
    (environment, next, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_continue_on_a_newer_server_and_none_is_lost() {
    let (mut environment, next, new) = before(EnvironmentOptions::default()).await;
    let old = environment.database_url.clone();
    let clients = environment.clients(4);
    clients.more(100).await.unwrap();
    let refused = script("prepare", &old, &new).await.unwrap_err();
    assert!(refused.contains("wal_level"), "{refused}");
    environment.postgres.restart().await.unwrap();
    clients.more(50).await.unwrap();

    script("prepare", &old, &new).await.unwrap();
    // One after the other, as in a rolling update, with both servers.
    let both = |proxy| format!("postgres://postgres@{proxy},127.0.0.1:{}/holdfast", next.port());
    let api = both(environment.api_postgres.address());
    let worker = both(environment.worker_postgres.address());
    let apis = environment.apis.iter_mut().map(|it| (it, &api));
    let workers = environment.workers.iter_mut().map(|it| (it, &worker));
    for (program, url) in apis.chain(workers) {
        program.extend_env([("DATABASE_URL".to_owned(), url.clone())]);
        program.terminate(Duration::from_secs(30)).await.unwrap();
        program.start().await.unwrap();
        program.ready(PATIENCE).await.unwrap();
    }
    clients.more(50).await.unwrap();
    let told = script("switch", &old, &new).await.unwrap();
    eprintln!("{} to {}: {told}", environment.postgres.major(), next.major());
    clients.more(100).await.unwrap();
    // Each would lose the orders since the switch, or give their numbers again.
    for step in ["switch", "undo"] {
        let refused = script(step, &old, &new).await.unwrap_err();
        assert!(refused.contains("switched"), "{step}: {refused}");
    }
    environment.postgres.shutdown().await.unwrap();
    clients.more(50).await.unwrap();

    let seen = clients.stop().await;
    environment.database_url = new;
    let findings = environment.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}\n{:?}", seen.answers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_can_be_undone_before_the_switch() {
    let options = EnvironmentOptions { apis: 1, workers: 1, ..EnvironmentOptions::default() };
    let (environment, _next, new) = before(options).await;
    environment.postgres.restart().await.unwrap();
    let old = &environment.database_url;
    let clients = environment.clients(2);
    script("prepare", old, &new).await.unwrap();
    let mut follower = PgConnection::connect(&new).await.unwrap();
    follower.execute("SET default_transaction_read_only = off").await.unwrap();
    follower.execute("ALTER SUBSCRIPTION holdfast_upgrade DISABLE").await.unwrap();
    let refused = script_in(1, "switch", old, &new).await.unwrap_err();
    assert!(refused.contains("did not follow"), "{refused}");
    clients.more(50).await.unwrap();
    script("undo", old, &new).await.unwrap();
    clients.more(50).await.unwrap();
    let refused = script("switch", old, &new).await.unwrap_err();
    assert!(refused.contains("prepare"), "{refused}");
    clients.more(50).await.unwrap();
    let seen = clients.stop().await;
    let findings = environment.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}\n{:?}", seen.answers);
}
