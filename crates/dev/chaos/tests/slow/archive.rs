//! The archive command is killed repeatedly while a shop is under load: no order is lost, and none is in two places.

use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_bench::audit::{Expectation, audit_with_archive};
use holdfast_chaos::environment::{Environment, EnvironmentOptions};
use holdfast_sandbox::{PATIENCE, Process, ProcessOptions, workspace_binary};

use crate::waits::settled;

async fn start(environment: &Environment, folder: &Path) -> Process {
    let options = ProcessOptions::new(workspace_binary("holdfast-api").unwrap())
        .arg("archive")
        .arg("--older-than-days=30")
        .arg("--batch=10")
        .arg(format!("--to={}", folder.display()))
        .env("DATABASE_URL", &environment.database_url);
    Process::start(options).await.unwrap()
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_run_killed_at_any_moment_neither_loses_nor_duplicates_orders() {
    let environment = Environment::start(&EnvironmentOptions::default()).await.unwrap();
    let clients = environment.clients(4);
    clients.more(400).await.unwrap();
    let mut seen = clients.stop().await;
    let findings = environment.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}");
    let old = findings.orders;
    let age = "UPDATE orders SET created_at = created_at - interval '40 days', \
        processing_at = processing_at - interval '40 days', finished_at = finished_at - interval '40 days'";
    sqlx::raw_sql(age).execute(&mut environment.connect().await.unwrap()).await.unwrap();

    let clients = environment.clients(4);
    let folder = tempfile::tempdir().unwrap();
    let (begun, mut killed) = (Instant::now(), 0_u32);
    loop {
        let process = start(&environment, folder.path()).await;
        // The folder changes when a file is created or renamed. The kills are spread over the time after that.
        let before = files(folder.path());
        while files(folder.path()) <= before && process.status().is_none() {
            assert!(begun.elapsed() < PATIENCE, "{}", process.log_tail(20));
            std::hint::spin_loop();
        }
        // The moment of the kill is the subject.
        tokio::time::sleep(Duration::from_micros(u64::from(killed) * 331 % 5000)).await;
        if let Some(status) = process.status() {
            let log = process.log_tail(20);
            if status.success() {
                break;
            }
            // The session of the previous run ends a moment after its process.
            assert!(log.contains("is archiving this database"), "{log}");
        } else {
            process.kill9().await.unwrap();
            killed += 1;
        }
        assert!(begun.elapsed() < PATIENCE, "killed {killed} times, and never finished");
    }
    assert!(killed >= 10, "{killed}");
    clients.more(100).await.unwrap();
    let more = clients.stop().await;
    assert!(more.wrong.is_empty(), "{:?}", more.wrong);

    seen.log.accepted.extend(&more.log.accepted);
    seen.log.cut_off += more.log.cut_off;
    settled(&mut environment.connect().await.unwrap()).await;
    let expectation = Expectation { all_completed: true, ..Expectation::default() };
    let folder = Some(folder.path());
    let findings =
        audit_with_archive(&environment.database_url, Some(&seen.log), folder, expectation)
            .await
            .unwrap();
    assert!(findings.hold() && findings.unchecked.is_empty(), "{findings}");
    assert_eq!(findings.archived, old, "{findings}");
    assert!(findings.orders >= 100, "{findings}");
}
