//! The scripts of the chart's backup with a real PostgreSQL: a dump can be restored, and errors do not change a
//! database.

use std::path::{Path, PathBuf};
use std::process::Output;

use holdfast_sandbox::{PATIENCE, Postgres, PostgresOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::process::Command;

struct Fixture {
    postgres: Postgres,
    dumps: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        Self {
            postgres: Postgres::start(PostgresOptions::default()).await.unwrap(),
            dumps: tempfile::tempdir().unwrap(),
        }
    }

    /// An empty database.
    async fn database(&self, name: &str) -> String {
        self.postgres.ensure_database(name).await.unwrap()
    }

    /// A database of Holdfast with one product, which has this name.
    async fn shop(&self, name: &str, product: &str) -> String {
        let url = self.database(name).await;
        let mut migrations: Vec<_> = std::fs::read_dir(root().join("migrations"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == "sql"))
            .collect();
        migrations.sort();
        for migration in migrations {
            execute(&url, &std::fs::read_to_string(migration).unwrap()).await;
        }
        let product =
            format!("INSERT INTO products (name, price_minor, stock) VALUES ('{product}', 100, 5)");
        execute(&url, &product).await;
        url
    }

    async fn script(&self, name: &str, url: &str, more: &[(&str, &str)]) -> Output {
        // Debian does not put these programs on the PATH.
        let mut path = std::env::var("PATH").unwrap();
        if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql")
            && let Some(newest) = versions.filter_map(|it| Some(it.ok()?.path().join("bin"))).max()
        {
            path = format!("{}:{path}", newest.display());
        }
        let output = Command::new("sh")
            .arg(root().join("charts/holdfast/files/backup").join(name))
            .env("PATH", path)
            .env("DATABASE_URL", url)
            .env("BACKUP_FOLDER", self.dumps.path())
            .env("RESTORE_OVERWRITE", "false")
            .env("RESTORE_WAIT_SECONDS", "1")
            .envs(more.iter().copied())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap()
    }

    async fn dump(&self, url: &str) -> String {
        let output = self.script("dump.sh", url, &[]).await;
        assert!(output.status.success(), "{output:?}");
        self.names().pop().unwrap()
    }

    /// The dumps, oldest first.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.dumps.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap().to_owned()
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn products(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT name FROM products").fetch_all(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_dump_of_the_chart_is_restored_into_an_empty_database() {
    let fixture = Fixture::start().await;
    let shop = fixture.shop("shop", "Lamp").await;
    fixture.dump(&shop).await;
    let empty = fixture.database("empty").await;
    let output = fixture.script("restore.sh", &empty, &[]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(products(&empty).await, ["Lamp"]);
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_not_overwritten() {
    let fixture = Fixture::start().await;
    let shop = fixture.shop("shop", "Lamp").await;
    fixture.dump(&shop).await;
    let other = fixture.shop("other", "Chair").await;
    let output = fixture.script("restore.sh", &other, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(products(&other).await, ["Chair"]);
}

#[tokio::test]
async fn a_forced_restore_replaces_a_database_and_removes_what_the_dump_does_not_contain() {
    let fixture = Fixture::start().await;
    let shop = fixture.shop("shop", "Lamp").await;
    let dump = fixture.dump(&shop).await;
    // Objects of a later schema, which the dump does not contain.
    execute(
        &shop,
        "UPDATE products SET name = 'Chair'; CREATE TABLE later (id int); CREATE VIEW seen AS SELECT * FROM later; \
         CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('good')",
    )
    .await;
    let told = [("RESTORE_FILE", &*dump), ("RESTORE_OVERWRITE", "true")];
    let output = fixture.script("restore.sh", &shop, &told).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(products(&shop).await, ["Lamp"]);
    let mut connection = PgConnection::connect(&shop).await.unwrap();
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_class WHERE relname IN ('later', 'seen')) + \
         (SELECT count(*) FROM pg_proc WHERE proname = 'later') + (SELECT count(*) FROM pg_type WHERE typname = 'mood')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_restore_that_fails_changes_nothing() {
    let fixture = Fixture::start().await;
    let shop = fixture.shop("shop", "Lamp").await;
    let dump = fixture.dump(&shop).await;
    execute(&shop, "UPDATE products SET name = 'Chair'").await;
    let path = fixture.dumps.path().join(&dump);
    let whole = std::fs::read(&path).unwrap();
    for (name, broken) in [
        ("cut.dump", whole[..whole.len() * 3 / 4].to_vec()),
        ("other.dump", b"not a dump".to_vec()),
        ("none.dump", Vec::new()),
    ] {
        std::fs::write(fixture.dumps.path().join(name), broken).unwrap();
        let told = [("RESTORE_FILE", name), ("RESTORE_OVERWRITE", "true")];
        let output = fixture.script("restore.sh", &shop, &told).await;
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert_eq!(products(&shop).await, ["Chair"], "{name}");
    }
    let output = fixture.script("restore.sh", &shop, &[("RESTORE_FILE", "missing.dump")]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test]
async fn an_error_of_the_server_in_a_restore_changes_nothing() {
    let fixture = Fixture::start().await;
    let shop = fixture.shop("shop", "Lamp").await;
    let dump = fixture.dump(&shop).await;
    execute(&shop, "UPDATE products SET name = 'Chair'").await;
    // The first command of the dump that creates a table fails.
    execute(
        &shop,
        "CREATE SCHEMA guard; CREATE FUNCTION guard.refuse() RETURNS event_trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no'; END $$; \
         CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION guard.refuse()",
    )
    .await;
    let told = [("RESTORE_FILE", &*dump), ("RESTORE_OVERWRITE", "true")];
    let output = fixture.script("restore.sh", &shop, &told).await;
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(products(&shop).await, ["Chair"]);
}

#[tokio::test]
async fn nothing_is_restored_while_an_api_or_a_worker_is_connected() {
    let fixture = Fixture::start().await;
    let shop = fixture.shop("shop", "Lamp").await;
    let dump = fixture.dump(&shop).await;
    execute(&shop, "UPDATE products SET name = 'Chair'").await;
    let told = [("RESTORE_FILE", &*dump), ("RESTORE_OVERWRITE", "true")];
    let api = format!("{shop}?application_name=holdfast");
    let api = PgConnection::connect(&api).await.unwrap();
    let output = fixture.script("restore.sh", &shop, &told).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(products(&shop).await, ["Chair"]);
    api.close().await.unwrap();
    // The operator may stay connected.
    let operator = format!("{shop}?application_name=holdfast-operator");
    let _operator = PgConnection::connect(&operator).await.unwrap();
    let output = fixture.script("restore.sh", &shop, &told).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(products(&shop).await, ["Lamp"]);
}

#[tokio::test]
async fn the_newest_dumps_are_kept_and_nothing_else_is_removed() {
    let fixture = Fixture::start().await;
    let shop = fixture.shop("shop", "Lamp").await;
    for name in [
        "holdfast-20200101T000000Z.dump",
        "holdfast-20200102T000000Z.dump",
        "holdfast-20200103T000000Z.dump",
        "holdfast-by-hand.dump",
        "notes",
    ] {
        std::fs::write(fixture.dumps.path().join(name), "").unwrap();
    }
    let output = fixture.script("dump.sh", &shop, &[("BACKUP_KEEP", "2")]).await;
    assert!(output.status.success(), "{output:?}");
    let names = fixture.names();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names[0], "holdfast-20200103T000000Z.dump");
    assert!(names[1].starts_with("holdfast-2") && names[2..] == ["holdfast-by-hand.dump", "notes"]);
}

#[tokio::test]
async fn a_dump_that_fails_removes_nothing_and_leaves_no_dump() {
    let fixture = Fixture::start().await;
    let gone = fixture.postgres.database_url("gone");
    std::fs::write(fixture.dumps.path().join("holdfast-20200101T000000Z.dump"), "").unwrap();
    let output = fixture.script("dump.sh", &gone, &[("BACKUP_KEEP", "1")]).await;
    assert!(!output.status.success(), "{output:?}");
    let dumps: Vec<_> = fixture.names().into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(dumps, ["holdfast-20200101T000000Z.dump"]);
}
