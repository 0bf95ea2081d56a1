//! `holdfast-api archive`: normal runs, and runs that are killed.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use holdfast_sandbox::{Process, ProcessOptions, Proxy, shared_postgres, until};
use holdfast_store::{Store, StoreSettings};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::server::{BINARY, Server, database};

/// Orders 1 to 30 were completed 100 days ago, orders 31 to 35 yesterday.
const ORDERS: &str = "\
    INSERT INTO products (name, price_minor, stock) VALUES ('One', 100, 9); \
    INSERT INTO orders (product_id, quantity, unit_price_minor, status, attempt, created_at, \
            processing_at, finished_at) \
        SELECT 1, 1, 100, 'completed', 1, at, at, at FROM ( \
            SELECT i, now() - CASE WHEN i > 30 THEN 1 ELSE 100 END * interval '1 day' AS at \
            FROM generate_series(1, 35) AS i ORDER BY i) AS made";

struct ArchiveShop {
    url: String,
    store: Store,
    folder: TempDir,
}

async fn shop() -> ArchiveShop {
    let url = database().await;
    let store = Store::connect(&StoreSettings::new(&url).unwrap());
    sqlx::raw_sql(ORDERS).execute(store.pool()).await.unwrap();
    ArchiveShop { url, store, folder: tempdir().unwrap() }
}

fn archive(url: &str, folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["archive", "--to"]).arg(folder).args(more).env("DATABASE_URL", url);
    if !more.contains(&"--older-than-days") {
        command.args(["--older-than-days", "30"]);
    }
    command.output().unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|it| name(it.unwrap())).collect();
    names.sort();
    names
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// The number of archive lines of each order.
fn archived(folder: &Path) -> BTreeMap<i64, usize> {
    let mut found = BTreeMap::new();
    for name in files(folder) {
        assert!(name.starts_with("orders-") && has_extension(&name, "jsonl"), "{name}");
        for line in fs::read_to_string(folder.join(name)).unwrap().lines() {
            let order: Value = serde_json::from_str(line).unwrap();
            *found.entry(order["id"].as_i64().unwrap()).or_default() += 1;
        }
    }
    found
}

impl ArchiveShop {
    fn archive(&self, more: &[&str]) -> Output {
        archive(&self.url, self.folder.path(), more)
    }

    /// In steps of ten, with a long wait for locked rows.
    async fn start(&self, url: &str) -> Process {
        let options = ProcessOptions::new(BINARY)
            .arg("archive")
            .arg("--older-than-days=30")
            .arg("--batch=10")
            .arg(format!("--to={}", self.folder.path().display()))
            .env("DATABASE_URL", url)
            .env("HOLDFAST_LOCK_TIMEOUT_MS", "60000")
            .env("HOLDFAST_STATEMENT_TIMEOUT_MS", "60001");
        Process::start(options).await.unwrap()
    }

    async fn left(&self) -> i64 {
        let left = "SELECT count(*) FROM orders WHERE id <= 30";
        sqlx::query_scalar(left).fetch_one(self.store.pool()).await.unwrap()
    }

    /// Each old order is archived once, and every young one is still in the tables.
    async fn is_archived(&self) {
        let once: BTreeMap<i64, usize> = (1..=30).map(|id| (id, 1)).collect();
        assert_eq!(archived(self.folder.path()), once, "{:?}", files(self.folder.path()));
        let left = sqlx::query_scalar("SELECT array_agg(id ORDER BY id) FROM orders");
        let left: Vec<i64> = left.fetch_one(self.store.pool()).await.unwrap();
        assert_eq!(left, [31, 32, 33, 34, 35]);
    }
}

fn good(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn refused(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(expected), "{expected:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_order_is_a_line_in_a_file_and_nowhere_else() {
    let server = Server::start().await;
    let (lamp, chair) = (server.product(9).await, server.product(9).await);
    let hold = json!({ "product_id": lamp, "quantity": 3, "customer_ref": "ada" });
    let hold = server.api.post("/holds", &hold).await.json();
    let items = json!([
        { "product_id": lamp, "quantity": 3, "hold_id": hold["id"] },
        { "product_id": chair, "quantity": 2 },
    ]);
    let order = json!({ "items": items, "customer_ref": "ada", "metadata": { "gift": true } });
    let order = server.api.post("/orders", &order).await;
    assert_eq!(order.status, 201, "{}", order.text);
    let age = "UPDATE orders SET status = 'completed', attempt = 1, processing_at = at, finished_at = at \
        FROM (SELECT now() - interval '40 days' AS at) AS long_ago; \
        UPDATE orders SET created_at = finished_at - interval '1 day'";
    sqlx::raw_sql(age).execute(server.store.pool()).await.unwrap();
    let path = format!("/orders/{}", order.json()["id"]);
    let mut expected = server.api.get(&path).await.json();
    assert!(expected["history"].as_array().unwrap().len() > 2, "{expected}");
    let hold_path = format!("/holds/{}", hold["id"]);
    expected["holds"] = json!([server.api.get(&hold_path).await.json()]);

    let folder = tempdir().unwrap();
    good(&archive(&server.database_url, folder.path(), &["--older-than-days", "41"]));
    assert_eq!(files(folder.path()), [""; 0], "it is younger than that");
    let output = archive(&server.database_url, folder.path(), &["-o", "json"]);
    good(&output);
    let written: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(written, json!([{ "file": "orders-1-1.jsonl", "orders": 1 }]));
    let line = fs::read_to_string(folder.path().join("orders-1-1.jsonl")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(line.trim_end()).unwrap(), expected);
    assert_eq!(server.api.get(&path).await.status, 404);
    assert_eq!(server.api.get(&hold_path).await.status, 404);
    assert_eq!(server.api.get("/orders").await.json(), json!([]));
    // Sold units stay sold.
    assert_eq!(server.api.get(&format!("/products/{lamp}")).await.json()["stock"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_have_the_requested_size_and_number() {
    let shop = shop().await;
    good(&shop.archive(&["--batch", "7", "--max-batches", "2"]));
    assert_eq!(shop.left().await, 30 - 14);
    assert_eq!(files(shop.folder.path()), ["orders-1-7.jsonl", "orders-8-14.jsonl"]);
    good(&shop.archive(&["--batch", "7"]));
    shop.is_archived().await;
    let output = shop.archive(&[]);
    good(&output);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing is left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_run_is_reported_and_changes_nothing() {
    let shop = shop().await;
    let folder = shop.folder.path();
    refused(&archive(&shop.url, &folder.join("none"), &[]), "--to: ");
    let file = folder.join("file");
    fs::write(&file, "").unwrap();
    refused(&archive(&shop.url, &file, &[]), "is not a folder");
    fs::remove_file(&file).unwrap();
    for (wrong, range) in [
        (["--batch", "0"], "from 1 to 10000"),
        (["--batch", "10001"], "from 1 to 10000"),
        (["--max-batches", "0"], "from 1 to 1000000"),
        (["--older-than-days", "0"], "from 1 to 36500"),
    ] {
        refused(&shop.archive(&wrong), range);
    }
    let other = shop.store.archive().await.unwrap().unwrap();
    refused(&shop.archive(&[]), "is archiving this database");
    other.close().await.unwrap();
    // As after a restore of a backup: the file name already exists.
    fs::write(folder.join("orders-1-30.jsonl"), "precious").unwrap();
    // The server notices the end of a session only after a moment.
    until("it finds the file", async || {
        let output = shop.archive(&[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        said.contains("already exists").then_some(()).ok_or(said)
    })
    .await;
    assert_eq!(fs::read_to_string(folder.join("orders-1-30.jsonl")).unwrap(), "precious");
    assert_eq!((shop.left().await, files(folder).len()), (30, 1));
}

/// Kills the command while the deleting transaction waits for a row, with the file on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_before_the_deletion_starts_again() {
    let shop = shop().await;
    let folder = shop.folder.path();
    let mut blocker = shop.store.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM orders WHERE id = 12 FOR UPDATE")
        .execute(&mut *blocker)
        .await
        .unwrap();
    let process = shop.start(&shop.url).await;
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'holdfast-archive' AND wait_event_type = 'Lock')";
    process
        .until("it waits", async || {
            sqlx::query_scalar::<_, bool>(waits).fetch_one(shop.store.pool()).await.unwrap()
        })
        .await;
    process.kill9().await.unwrap();
    let [first, second] = &files(folder)[..] else { panic!("{:?}", files(folder)) };
    assert_eq!(first, "orders-1-10.jsonl");
    assert!(second.starts_with("orders-11-20.jsonl.") && has_extension(second, "part"), "{second}");
    assert_eq!(shop.left().await, 20);
    // The file of another database, which the command must not touch.
    let other = "orders-1-9.jsonl.00000000000000000000000000000000.part";
    fs::write(folder.join(other), "precious").unwrap();

    // Its session ends only after its transaction, which is still waiting.
    refused(&shop.archive(&[]), "is archiving this database");
    blocker.rollback().await.unwrap();
    // With another step size, the interrupted step does not become part of the archive.
    until("the lock is free", async || shop.archive(&["--batch", "100"]).status.success()).await;
    assert_eq!(fs::read_to_string(folder.join(other)).unwrap(), "precious");
    fs::remove_file(folder.join(other)).unwrap();
    shop.is_archived().await;
}

/// Kills the command after its commit, before it gets the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_before_the_rename_is_completed_later() {
    let shop = shop().await;
    let folder = shop.folder.path();
    let port = shared_postgres().await.unwrap().port();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
    proxy.deaf_after(Some(b"COMMIT"));
    let url = shop.url.replace(&format!(":{port}/"), &format!(":{}/", proxy.address().port()));
    let process = shop.start(&url).await;
    process.until("it has deleted", async || shop.left().await != 30).await;
    process.kill9().await.unwrap();
    drop(proxy);
    let [file] = &files(folder)[..] else { panic!("{:?}", files(folder)) };
    assert!(file.starts_with("orders-1-10.jsonl.") && has_extension(file, "part"), "{file}");
    assert_eq!(shop.left().await, 20);
    until("the lock is free", async || shop.archive(&["--batch", "10"]).status.success()).await;
    shop.is_archived().await;
}
