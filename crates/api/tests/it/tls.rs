//! PostgreSQL and Redis over TLS, each with its own CA, with the settings of the chart.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use holdfast_sandbox::{
    Port, Postgres, PostgresOptions, Process, ProcessOptions, Redis, RedisOptions, http_get,
    workspace_binary,
};
use holdfast_store::{Store, StoreSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

use crate::{
    client::Client,
    server::{BINARY, addresses, spawn},
};

/// Files with a CA certificate, and with a server's certificate and key.
struct Pki {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL runs as another user.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let pki = Self { folder, authority };
        std::fs::write(pki.ca(), pki.authority.pem()).unwrap();
        pki
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A certificate for `localhost` and its key, which only the owner of `like` may read.
    fn server(&self, like: &Path) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let file = |name: &str, content: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let owner = std::fs::metadata(like).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            path.to_str().unwrap().to_owned()
        };
        (file("tls.crt", &certificate.pem()), file("tls.key", &key.serialize_pem()))
    }
}

/// A migrated database on a server with TLS.
async fn postgres(pki: &Pki) -> (Postgres, String, Store) {
    let postgres = Postgres::start(PostgresOptions::default()).await.unwrap();
    let plain = postgres.create_database().await.unwrap();
    let store = Store::connect(&StoreSettings::new(&plain).unwrap());
    let data: String =
        sqlx::query_scalar("SHOW data_directory").fetch_one(store.pool()).await.unwrap();
    let (certificate, key) = pki.server(Path::new(&data));
    for setting in [
        format!("ALTER SYSTEM SET ssl_cert_file = '{certificate}'"),
        format!("ALTER SYSTEM SET ssl_key_file = '{key}'"),
        "ALTER SYSTEM SET ssl = on".to_owned(),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(setting)).execute(store.pool()).await.unwrap();
    }
    let url = plain.replace("127.0.0.1", "localhost");
    (postgres, url, store)
}

/// A server with TLS, and its address.
async fn redis(pki: &Pki) -> (Redis, String) {
    let port = Port::lease().unwrap();
    let (certificate, key) = pki.server(pki.folder.path());
    let args = ["--tls-port", &port.number().to_string(), "--tls-auth-clients", "no"]
        .into_iter()
        .chain(["--tls-cert-file", &certificate, "--tls-key-file", &key])
        .map(str::to_owned)
        .collect();
    let redis = Redis::start(RedisOptions { args, ..RedisOptions::default() }).await.unwrap();
    (redis, format!("rediss://localhost:{}", port.number()))
}

fn migrate(url: &str, ca: &Path) -> (bool, String) {
    let output = Command::new(BINARY)
        .arg("migrate")
        .env("DATABASE_URL", url)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", ca)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn worker(database: &str, redis: &str, database_ca: &str, redis_ca: &str) -> Process {
    let options = ProcessOptions::new(workspace_binary("holdfast-worker").unwrap())
        .arg("run")
        .env("DATABASE_URL", database)
        .env("REDIS_URL", redis)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", database_ca)
        .env("HOLDFAST_REDIS_CA_FILE", redis_ca)
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_FULFILMENT_MS", "0");
    Process::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_and_fulfilled_over_verified_tls() {
    let (for_postgres, for_redis) = (Pki::new(), Pki::new());
    let (_postgres, database, store) = postgres(&for_postgres).await;
    let (_redis, redis) = redis(&for_redis).await;
    let (database_ca, redis_ca) = (for_postgres.ca(), for_redis.ca());
    let (database_ca, redis_ca) = (database_ca.to_str().unwrap(), redis_ca.to_str().unwrap());

    let (migrated, log) = migrate(&database, &for_redis.ca());
    assert!(!migrated && log.contains("certificate"), "by another's authority: {log}");
    let (migrated, log) = migrate(&database, &for_postgres.ca());
    assert!(migrated, "{log}");

    let settings = [
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", database_ca),
        ("HOLDFAST_REDIS_CA_FILE", redis_ca),
    ];
    let process = spawn(&database, &redis, &settings).await;
    let [api, internal, _] = addresses(&process).await;
    let (api, internal) = (Client::new(&api), Client::new(&internal));
    process
        .until("the API is ready and its cache is up", async || {
            internal.get("/readyz").await.status == 200
                && internal
                    .get("/metrics")
                    .await
                    .text
                    .contains("holdfast_cache_up{tier=\"redis\"} 1")
        })
        .await;
    let product = json!({ "name": "Espresso machine", "price": 499.9, "stock": 2 });
    assert_eq!(api.post("/products", &product).await.status, 201);
    let order = json!({ "product_id": 1, "quantity": 1 });
    assert_eq!(api.post("/orders", &order).await.status, 201);

    // The queue is used only over TLS: a worker with another CA is not ready.
    let stranger = worker(&database, &redis, database_ca, database_ca).await;
    let started = stranger.started().await;
    let metrics = started["metrics"].as_str().unwrap();
    stranger.logs(&["certificate"]).await;
    assert_eq!(http_get(&format!("http://{metrics}/readyz")).await.unwrap().status, 503);
    assert_eq!(api.get("/orders/1").await.json()["status"], "pending");
    stranger.kill9().await.unwrap();

    let friend = worker(&database, &redis, database_ca, redis_ca).await;
    friend
        .until("the order is completed", async || {
            api.get("/orders/1").await.json()["status"] == "completed"
        })
        .await;
    // This session itself does not use TLS. The test's other sessions end now.
    let plain = database.replace("localhost", "127.0.0.1");
    store.close().await;
    let asking =
        sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&plain).await.unwrap();
    friend
        .until("every session uses TLS", async || {
            let in_the_clear: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE NOT ssl AND datname = current_database() AND pid <> pg_backend_pid() \
               AND backend_type = 'client backend'",
            )
            .fetch_one(&asking)
            .await
            .unwrap();
            in_the_clear == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_of_one_of_several_servers_is_reported() {
    let pki = Pki::new();
    let (primary, url, _store) = postgres(&pki).await;
    // It has the certificate of the primary, which is for `localhost`.
    let standby = primary.standby().await.unwrap();
    let named = format!("localhost:{}", primary.port());
    let hosts = |primary_host, standby_host| {
        let (primary, standby) = (primary.port(), standby.port());
        [
            format!("{primary_host}:{primary},{standby_host}:{standby}"),
            format!("{standby_host}:{standby},{primary_host}:{primary}"),
        ]
        .map(|hosts| url.replace(&named, &hosts))
    };
    for url in hosts("127.0.0.1", "localhost") {
        let (migrated, log) = migrate(&url, &pki.ca());
        assert!(!migrated && log.contains("certificate"), "{log}");
    }
    for url in hosts("localhost", "localhost") {
        let (migrated, log) = migrate(&url, &pki.ca());
        assert!(migrated, "{log}");
    }
}
