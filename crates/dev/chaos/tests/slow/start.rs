//! Programs are started in any order, and with servers that have a problem: each logs what it waits for, keeps running,
//! is not ready, and becomes ready when the problem is fixed.

use holdfast_sandbox::{
    PATIENCE, Port, Postgres, PostgresOptions, Process, ProcessOptions, Ready, Redis, RedisOptions,
    http_get, http_post_json, until, until_or, workspace_binary,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// The servers, their addresses for the programs, and the ports of the programs.
struct StartEnvironment {
    postgres: Postgres,
    redis: Redis,
    database_url: String,
    redis_url: String,
    api: Port,
    internal: [Port; 2],
}

impl StartEnvironment {
    async fn open(redis: RedisOptions) -> Self {
        let (postgres, redis) =
            tokio::try_join!(Postgres::start(PostgresOptions::default()), Redis::start(redis))
                .unwrap();
        Self {
            database_url: postgres.ensure_database("shop").await.unwrap(),
            redis_url: redis.url(),
            postgres,
            redis,
            api: Port::lease().unwrap(),
            internal: [Port::lease().unwrap(), Port::lease().unwrap()],
        }
    }

    fn program(&self, binary: &str, command: &str) -> ProcessOptions {
        ProcessOptions::new(workspace_binary(binary).unwrap())
            .arg(command)
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", &self.redis_url)
            .env("HOLDFAST_HTTP_ADDR", self.api.address().to_string())
            .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
            .env("HOLDFAST_AUTH", "off")
            .env("HOLDFAST_FULFILMENT_MS", "0")
            .env("HOLDFAST_SWEEP_INTERVAL_MS", "100")
            .env("HOLDFAST_SWEEP_AFTER_MS", "500")
    }

    /// Returns when it is live, which requires no server.
    async fn start(&self, binary: &str, command: &str, internal: usize) -> Process {
        let address = self.internal[internal].address();
        let options = self
            .program(binary, command)
            .env("HOLDFAST_METRICS_ADDR", address.to_string())
            .ready(Ready::Http(format!("http://{address}/livez")));
        Process::start(options).await.unwrap()
    }

    async fn api(&self) -> Process {
        self.start("holdfast-api", "serve", 0).await
    }

    async fn worker(&self) -> Process {
        self.start("holdfast-worker", "run", 1).await
    }

    /// Starts a migration, which waits for the database.
    async fn migrate(&self) -> Process {
        let options = self.program("holdfast-api", "migrate");
        Process::start(options.env("HOLDFAST_MIGRATE_WAIT_MS", "60000")).await.unwrap()
    }

    async fn migrated(&self) {
        let status = self.migrate().await.wait(PATIENCE).await.unwrap();
        assert!(status.success(), "{status}");
    }

    async fn sql(&self, text: &str) {
        let mut connection =
            PgConnection::connect(&self.postgres.database_url("shop")).await.unwrap();
        connection.execute(AssertSqlSafe(text)).await.unwrap();
    }

    /// The answers of `/readyz` of the API and of the worker; `false` if the program is not running.
    async fn ready(&self) -> [bool; 2] {
        let mut ready = [false; 2];
        for (ready, internal) in ready.iter_mut().zip(&self.internal) {
            let answer = http_get(&format!("http://{}/readyz", internal.address())).await;
            *ready = answer.is_ok_and(|answer| answer.status == 200);
        }
        ready
    }

    async fn until_ready(&self, expected: [bool; 2], programs: &[&Process]) {
        let what = format!("ready is {expected:?}");
        until_or(&what, async || self.ready().await == expected, || logs(programs)).await;
    }

    /// Places an order. Returns its URL.
    async fn order(&self, programs: &[&Process]) -> String {
        let api = format!("http://{}", self.api.address());
        let product = json!({ "name": "Espresso machine", "price": 499.9, "stock": 5 });
        let product = created(&format!("{api}/products"), &product, programs).await;
        let order = json!({ "product_id": product["id"], "quantity": 1 });
        let order = created(&format!("{api}/orders"), &order, programs).await;
        format!("{api}/orders/{}", order["id"])
    }

    async fn completed(&self, order: &str, programs: &[&Process]) {
        self.until_ready([true, true], programs).await;
        let completed =
            async || http_get(order).await.unwrap().json().unwrap()["status"] == "completed";
        until_or("the order is completed", completed, || logs(programs)).await;
        for program in programs {
            assert_eq!(program.status(), None, "it never ended");
        }
    }

    /// Places an order, which is fulfilled.
    async fn sells(&self, programs: &[&Process]) {
        self.until_ready([true, true], programs).await;
        let order = self.order(programs).await;
        self.completed(&order, programs).await;
    }
}

/// Sends a request until it is not refused: on a busy machine, a new connection can take longer than it may wait.
async fn created(url: &str, body: &Value, programs: &[&Process]) -> Value {
    let answer = until("a request is not refused", async || {
        let answer = http_post_json(url, body).await.unwrap();
        if answer.status == 503 { Err(answer.body) } else { Ok(answer) }
    });
    let answer = answer.await;
    assert_eq!(answer.status, 201, "{}\n{}", answer.body, programs[0].log_tail(10));
    answer.json().unwrap()
}

fn logs(programs: &[&Process]) -> String {
    programs.iter().map(|it| it.log_tail(10)).collect::<Vec<_>>().join("\n")
}

/// The number of log lines with these words.
fn times(program: &Process, words: &str) -> usize {
    program.log().unwrap().matches(words).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_last() {
    let environment = StartEnvironment::open(RedisOptions::default()).await;
    environment.postgres.shutdown().await.unwrap();
    let (migrate, api, worker) =
        tokio::join!(environment.migrate(), environment.api(), environment.worker());
    migrate.logs(&["waiting for the database"]).await;
    api.logs(&["not ready yet", "onnection refused"]).await;
    worker.logs(&["waiting for the database schema", "onnection refused"]).await;
    assert_eq!(environment.ready().await, [false, false]);
    environment.postgres.restart().await.unwrap();
    let migrated = migrate.wait(PATIENCE).await.unwrap();
    assert!(migrated.success(), "{migrated}");
    environment.sells(&[&api, &worker]).await;
    assert_eq!(times(&api, "not ready yet"), 1, "logged once, not at each attempt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_migration_last() {
    let environment = StartEnvironment::open(RedisOptions::default()).await;
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    let what = "the database has schema version 0, this binary needs";
    api.logs(&["not ready yet", what, "run `holdfast-api migrate`"]).await;
    worker.logs(&["waiting for the database schema", what]).await;
    assert_eq!(environment.ready().await, [false, false]);
    environment.migrated().await;
    environment.sells(&[&api, &worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_last() {
    let environment = StartEnvironment::open(RedisOptions::default()).await;
    environment.redis.kill9().await.unwrap();
    environment.migrated().await;
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    api.logs(&["redis cannot be reached", "onnection refused"]).await;
    worker.logs(&["Redis does not answer", "onnection refused"]).await;
    // Orders are accepted without Redis.
    environment.until_ready([true, false], &[&api, &worker]).await;
    environment.redis.restart().await.unwrap();
    environment.sells(&[&api, &worker]).await;
    assert_eq!(times(&api, "redis cannot be reached"), 1);
    assert_eq!(times(&worker, "Redis does not answer"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_last_and_the_worker_last() {
    let environment = StartEnvironment::open(RedisOptions::default()).await;
    environment.migrated().await;
    let worker = environment.worker().await;
    environment.until_ready([false, true], &[&worker]).await;
    let api = environment.api().await;
    environment.sells(&[&api, &worker]).await;
    assert!(worker.stop(PATIENCE).await.unwrap().success());
    drop(worker);
    environment.until_ready([true, false], &[&api]).await;
    let worker = environment.worker().await;
    environment.sells(&[&api, &worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_of_postgres() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let rules = folder.path().join("hba.conf");
    std::fs::write(
        &rules,
        "host all shopkeeper 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n",
    )
    .unwrap();
    // PostgreSQL may run as another user.
    let readable: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable.clone()).unwrap();
    std::fs::set_permissions(&rules, readable).unwrap();

    let mut environment = StartEnvironment::open(RedisOptions::default()).await;
    environment.migrated().await;
    environment.sql("CREATE ROLE shopkeeper SUPERUSER LOGIN PASSWORD 'of-yesterday'").await;
    environment.sql(&format!("ALTER SYSTEM SET hba_file = '{}'", rules.display())).await;
    environment.postgres.restart().await.unwrap();
    environment.database_url =
        environment.database_url.replacen("postgres@", "shopkeeper:hunter2@", 1);
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    let what = "password authentication failed for user \\\"shopkeeper\\\"";
    api.logs(&["not ready yet", what]).await;
    worker.logs(&["waiting for the database schema", what]).await;
    assert_eq!(environment.ready().await, [false, false]);
    environment.sql("ALTER ROLE shopkeeper PASSWORD 'hunter2'").await;
    environment.sells(&[&api, &worker]).await;
    for program in [&api, &worker] {
        assert_eq!(times(program, "hunter2"), 0, "a password is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_of_redis() {
    let mut environment = StartEnvironment::open(RedisOptions::default()).await;
    environment.migrated().await;
    environment.redis.command("CONFIG SET requirepass of-yesterday").await.unwrap();
    environment.redis_url = environment.redis_url.replacen("redis://", "redis://:hunter2@", 1);
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    api.logs(&["redis cannot be reached", "assword authentication failed"]).await;
    worker.logs(&["Redis does not answer", "assword authentication failed"]).await;
    environment.until_ready([true, false], &[&api, &worker]).await;
    let mend = "AUTH of-yesterday\r\nCONFIG SET requirepass hunter2";
    environment.redis.command(mend).await.unwrap();
    environment.sells(&[&api, &worker]).await;
    for program in [&api, &worker] {
        assert_eq!(times(program, "hunter2"), 0, "a password is in the log");
    }
}

/// Like a Redis that is too old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_streams() {
    let streams = ["XADD", "XGROUP", "XREADGROUP", "XAUTOCLAIM", "XACK", "XINFO", "XLEN", "XRANGE"];
    let args = streams.iter().flat_map(|name| ["--rename-command", *name, ""].map(str::to_owned));
    let mut environment =
        StartEnvironment::open(RedisOptions { args: args.collect(), ..RedisOptions::default() })
            .await;
    environment.migrated().await;
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    worker.logs(&["Redis does not answer", "unknown command"]).await;
    environment.until_ready([true, false], &[&api, &worker]).await;
    let order = environment.order(&[&api, &worker]).await;
    api.logs(&["orders cannot be published", "unknown command"]).await;
    assert_eq!((api.status(), worker.status()), (None, None));
    // They get another server.
    drop((api, worker));
    environment.redis = Redis::start(RedisOptions::default()).await.unwrap();
    environment.redis_url = environment.redis.url();
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    environment.completed(&order, &[&api, &worker]).await;
    environment.sells(&[&api, &worker]).await;
}

/// Like access rules that do not allow for the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_all_publishing() {
    let environment = StartEnvironment::open(RedisOptions::default()).await;
    environment.redis.command("ACL SETUSER default -xadd").await.unwrap();
    environment.migrated().await;
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    environment.until_ready([true, true], &[&api, &worker]).await;
    let order = environment.order(&[&api, &worker]).await;
    api.logs(&["orders cannot be published", "no permissions"]).await;
    worker.logs(&["a maintenance task fails", "lost_orders", "no permissions"]).await;
    environment.until_ready([true, false], &[&api, &worker]).await;
    environment.redis.command("ACL SETUSER default +xadd").await.unwrap();
    environment.completed(&order, &[&api, &worker]).await;
    environment.sells(&[&api, &worker]).await;
    // Only publishing is refused.
    assert_eq!(times(&worker, "a maintenance task fails"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_older_and_one_that_is_newer() {
    let environment = StartEnvironment::open(RedisOptions::default()).await;
    environment.migrated().await;
    environment
        .sql(
            "CREATE TABLE aside AS SELECT * FROM _sqlx_migrations ORDER BY version DESC LIMIT 1; \
             DELETE FROM _sqlx_migrations WHERE version IN (SELECT version FROM aside)",
        )
        .await;
    let (api, worker) = tokio::join!(environment.api(), environment.worker());
    api.logs(&["not ready yet", "the database has schema version", "run `holdfast-api migrate`"])
        .await;
    worker.logs(&["waiting for the database schema", "the database has schema version"]).await;
    assert_eq!(environment.ready().await, [false, false]);
    // The missing migration, and one of a next release.
    environment
        .sql(
            "INSERT INTO _sqlx_migrations TABLE aside; \
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99999, 'the next release', true, '', 0)",
        )
        .await;
    environment.sells(&[&api, &worker]).await;
    let (api, worker) = {
        drop((api, worker));
        tokio::join!(environment.api(), environment.worker())
    };
    environment.sells(&[&api, &worker]).await;
}
