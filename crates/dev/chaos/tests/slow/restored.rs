//! A database that returns to an earlier state: its ids and versions are assigned again, and the new ones must not be
//! confused with the old.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_chaos::environment::{Environment, EnvironmentOptions, STOCK};
use holdfast_sandbox::{PATIENCE, http_get, http_post_json, until};
use serde_json::json;
use tokio::process::Command;

async fn environment() -> Environment {
    let options =
        EnvironmentOptions { apis: 1, workers: 1, products: 1, ..EnvironmentOptions::default() };
    Environment::start(&options).await.unwrap()
}

/// An order that is accepted, at the latest when the database is back, and completed.
async fn fulfilled(environment: &Environment) -> i64 {
    let url = format!("http://{}/orders", environment.apis[0].address());
    let id = until("an order is accepted", async || {
        let answer = http_post_json(&url, &json!({ "product_id": 1, "quantity": 1 })).await;
        match answer {
            Ok(answer) if answer.status == 201 => {
                Ok(answer.json().unwrap()["id"].as_i64().unwrap())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let url = format!("{url}/{id}");
    until("it is completed", async || {
        http_get(&url).await.is_ok_and(|answer| answer.json().unwrap()["status"] == "completed")
    })
    .await;
    id
}

async fn stock(environment: &Environment) -> Option<i64> {
    let url = format!("http://{}/products/1", environment.apis[0].address());
    let answer = http_get(&url).await.ok().filter(|answer| answer.status == 200)?;
    answer.json().unwrap()["stock"].as_i64()
}

/// Waits until the running API has noticed this many times that the database is a different one.
async fn noticed(environment: &Environment, times: usize) {
    until("the API has noticed", async || {
        let log = environment.apis[0].with(async |process| process.log()).await.unwrap();
        log.matches("the cache is emptied").count() == times
    })
    .await;
}

/// Places three orders, which `go_back` undoes, and three more, which get the same numbers. All are sent to the
/// receiver.
async fn numbers_come_again(environment: &Environment, go_back: impl AsyncFn()) {
    let mut before = Vec::new();
    for _ in 0..3 {
        before.push(fulfilled(environment).await);
    }
    // Cached in Redis and in the process, with a version that the database will no longer have.
    assert_eq!(stock(environment).await, Some(STOCK - 3));
    for id in &before {
        assert_eq!(environment.downstream.messages_of(*id).len(), 1);
    }

    go_back().await;
    until("the old stock is shown", async || stock(environment).await == Some(STOCK)).await;
    let mut after = Vec::new();
    for number in 1..=3 {
        after.push(fulfilled(environment).await);
        assert_eq!(stock(environment).await, Some(STOCK - number), "an order is seen at once");
    }
    assert_eq!(after, before, "the numbers are assigned again");
    for id in &after {
        let messages = environment.downstream.messages_of(*id);
        assert_eq!(messages.len(), 2, "the messages have different ids: {messages:?}");
    }
    assert_eq!(environment.downstream.counts(), (3, 3), "each of the six was sent once");
}

async fn run(program: &str, arguments: &[&str]) {
    // The newest installed version. Debian does not put these programs on the PATH.
    let path = std::env::var("PATH").unwrap();
    let debian = glob_bin().map(|bin| format!("{}:{path}", bin.display()));
    let output = Command::new("env")
        .arg(format!("PATH={}", debian.unwrap_or(path)))
        .arg(program)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
}

fn glob_bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).max()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_into_the_same_database_an_order_with_a_known_number_is_shipped() {
    let environment = environment().await;
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("holdfast.dump");
    let dump = dump.to_str().unwrap();
    run("pg_dump", &["--format=custom", "--file", dump, &environment.database_url]).await;
    numbers_come_again(&environment, async || {
        for member in environment.apis.iter().chain(&environment.workers) {
            member.terminate(Duration::from_secs(30)).await.unwrap();
        }
        let to = [
            "--clean",
            "--if-exists",
            "--exit-on-error",
            "--dbname",
            &environment.database_url,
            dump,
        ];
        run("pg_restore", &to).await;
        // Redis is unchanged.
        for member in environment.apis.iter().chain(&environment.workers) {
            member.start().await.unwrap();
        }
        environment.ready(PATIENCE).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_under_running_programs_an_order_with_a_known_number_is_shipped() {
    let environment = environment().await;
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("holdfast.dump");
    let dump = dump.to_str().unwrap();
    run("pg_dump", &["--format=custom", "--file", dump, &environment.database_url]).await;
    numbers_come_again(&environment, async || {
        // In one transaction, so that the programs see either state.
        let to = [
            "--clean",
            "--if-exists",
            "--single-transaction",
            "--dbname",
            &environment.database_url,
        ];
        run("pg_restore", &[&to[..], &[dump]].concat()).await;
        noticed(&environment, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_that_lost_commits_an_order_with_a_known_number_is_shipped() {
    let environment = environment().await;
    let data = data_folder(&environment);
    let copy = data.with_file_name("copy");
    let (data, copy) = (data.to_str().unwrap(), copy.to_str().unwrap());
    // The state of the standby, which is disconnected from here on.
    environment.postgres.shutdown().await.unwrap();
    run("cp", &["--archive", data, copy]).await;
    environment.postgres.restart().await.unwrap();
    noticed(&environment, 1).await;
    numbers_come_again(&environment, async || {
        environment.postgres.kill9().await.unwrap();
        run("rm", &["--recursive", data]).await;
        run("cp", &["--archive", copy, data]).await;
        environment.postgres.restart().await.unwrap();
    })
    .await;
}

fn data_folder(environment: &Environment) -> PathBuf {
    let log = environment.postgres.log_path();
    let folder = log.ancestors().find(|folder| folder.join("data").is_dir());
    folder.map(Path::to_path_buf).unwrap().join("data")
}
