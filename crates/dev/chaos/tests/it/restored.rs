//! A database that goes back: its ids and versions are given out again, and nobody may take the new for the old.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_chaos::world::{STOCK, World, WorldOptions};
use holdfast_sandbox::{http_get, http_post_json};
use serde_json::json;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_mins(1);

async fn world() -> World {
    let options = WorldOptions { apis: 1, workers: 1, products: 1, ..WorldOptions::default() };
    World::start(&options).await.unwrap()
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An order that is accepted, at the latest when the database is back, and completed.
async fn fulfilled(world: &World) -> i64 {
    let url = format!("http://{}/orders", world.apis[0].address());
    let begun = Instant::now();
    let id = loop {
        let answer = http_post_json(&url, &json!({ "product_id": 1, "quantity": 1 })).await;
        match answer {
            Ok(answer) if answer.status == 201 => {
                break answer.json().unwrap()["id"].as_i64().unwrap();
            }
            other => assert!(begun.elapsed() < PATIENCE, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let url = format!("{url}/{id}");
    until("it is completed", async || {
        http_get(&url).await.is_ok_and(|answer| answer.json().unwrap()["status"] == "completed")
    })
    .await;
    id
}

async fn stock(world: &World) -> Option<i64> {
    let url = format!("http://{}/products/1", world.apis[0].address());
    let answer = http_get(&url).await.ok().filter(|answer| answer.status == 200)?;
    answer.json().unwrap()["stock"].as_i64()
}

/// Waits until the API, which has run all the time, has noticed so often that the database is another one.
async fn noticed(world: &World, times: usize) {
    until("the API has noticed", async || {
        let log = world.apis[0].with(async |process| process.log()).await.unwrap();
        log.matches("what is cached is forgotten").count() == times
    })
    .await;
}

/// Three orders, which are then undone by `go_back`, and three more: they get the same numbers, and are all
/// told to the receiver.
async fn numbers_come_again(world: &World, go_back: impl AsyncFn()) {
    let mut before = Vec::new();
    for _ in 0..3 {
        before.push(fulfilled(world).await);
    }
    // Cached in Redis and in the process, with a version that the database will have forgotten.
    assert_eq!(stock(world).await, Some(STOCK - 3));
    for id in &before {
        assert_eq!(world.downstream.messages_of(*id).len(), 1);
    }

    go_back().await;
    until("the old stock is shown", async || stock(world).await == Some(STOCK)).await;
    let mut after = Vec::new();
    for number in 1..=3 {
        after.push(fulfilled(world).await);
        assert_eq!(stock(world).await, Some(STOCK - number), "an order is seen at once");
    }
    assert_eq!(after, before, "the numbers are given out again");
    for id in &after {
        let messages = world.downstream.messages_of(*id);
        assert_eq!(messages.len(), 2, "the receiver can tell them apart: {messages:?}");
    }
    assert_eq!(world.downstream.counts(), (3, 3), "each of the six was sent once");
}

async fn run(program: &str, arguments: &[&str]) {
    // The newest of the installed ones; Debian has them in no PATH.
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
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("holdfast.dump");
    let dump = dump.to_str().unwrap();
    run("pg_dump", &["--format=custom", "--file", dump, &world.database_url]).await;
    numbers_come_again(&world, async || {
        for member in world.apis.iter().chain(&world.workers) {
            member.terminate(Duration::from_secs(30)).await.unwrap();
        }
        let to =
            ["--clean", "--if-exists", "--exit-on-error", "--dbname", &world.database_url, dump];
        run("pg_restore", &to).await;
        // Redis is as it was.
        for member in world.apis.iter().chain(&world.workers) {
            member.start().await.unwrap();
        }
        world.ready(PATIENCE).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_under_running_programs_an_order_with_a_known_number_is_shipped() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("holdfast.dump");
    let dump = dump.to_str().unwrap();
    run("pg_dump", &["--format=custom", "--file", dump, &world.database_url]).await;
    numbers_come_again(&world, async || {
        // All of it in one transaction: they see the one or the other.
        let to =
            ["--clean", "--if-exists", "--single-transaction", "--dbname", &world.database_url];
        run("pg_restore", &[&to[..], &[dump]].concat()).await;
        noticed(&world, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_that_lost_commits_an_order_with_a_known_number_is_shipped() {
    let world = world().await;
    let data = data_folder(&world);
    let copy = data.with_file_name("copy");
    let (data, copy) = (data.to_str().unwrap(), copy.to_str().unwrap());
    // What a standby has that is cut off from here on.
    world.postgres.shutdown().await.unwrap();
    run("cp", &["--archive", data, copy]).await;
    world.postgres.restart().await.unwrap();
    noticed(&world, 1).await;
    numbers_come_again(&world, async || {
        world.postgres.kill9().await.unwrap();
        run("rm", &["--recursive", data]).await;
        run("cp", &["--archive", copy, data]).await;
        world.postgres.restart().await.unwrap();
    })
    .await;
}

fn data_folder(world: &World) -> PathBuf {
    let log = world.postgres.log_path();
    let folder = log.ancestors().find(|folder| folder.join("data").is_dir());
    folder.map(Path::to_path_buf).unwrap().join("data")
}
