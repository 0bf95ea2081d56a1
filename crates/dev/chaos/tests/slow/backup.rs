//! A backup that is taken under load is consistent, and a Holdfast on it finishes all orders.

use std::path::Path;
use std::process::Stdio;

use holdfast_bench::audit::{Expectation, audit};
use holdfast_chaos::environment::{Environment, EnvironmentOptions};
use holdfast_sandbox::{PATIENCE, Process, ProcessOptions, Redis, RedisOptions, workspace_binary};
use sqlx::{Connection as _, PgConnection};

use crate::waits::settled;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_is_complete_and_usable() {
    let environment = Environment::start(&EnvironmentOptions::default()).await.unwrap();
    let clients = environment.clients(4);
    clients.more(100).await.unwrap();

    let restored = environment.postgres.ensure_database("restored").await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rehearsal = tokio::process::Command::new(root.join("scripts/backup-rehearsal"))
        .arg(folder.path().join("holdfast.dump"))
        .env("DATABASE_URL", &environment.database_url)
        .env("RESTORE_URL", &restored)
        .env("BENCH", workspace_binary("holdfast-bench").unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, rehearsal).await.unwrap().unwrap();
    let told = format!("{output:?}");
    assert!(output.status.success(), "{told}");
    assert!(clients.accepted() > 100, "the load continued in the meantime");
    let seen = clients.stop().await;
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);

    // Another Redis, which is empty.
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let worker = ProcessOptions::new(workspace_binary("holdfast-worker").unwrap())
        .arg("run")
        .env("DATABASE_URL", &restored)
        .env("REDIS_URL", redis.url())
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_FULFILMENT_MS", "0")
        .env("HOLDFAST_LEASE_MS", "1500")
        .env("HOLDFAST_SWEEP_INTERVAL_MS", "100")
        .env("HOLDFAST_SWEEP_AFTER_MS", "500");
    let _worker = Process::start(worker).await.unwrap();
    let mut connection = PgConnection::connect(&restored).await.unwrap();
    settled(&mut connection).await;
    let expectation = Expectation { all_completed: true, ..Expectation::default() };
    let findings = audit(&restored, None, expectation).await.unwrap();
    assert!(findings.hold() && findings.orders >= 100, "{findings}");
}
