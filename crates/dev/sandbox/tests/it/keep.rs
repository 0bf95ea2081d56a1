//! Kept data: the next start finds it, and only one sandbox can use it at a time.

use holdfast_sandbox::{Keep, Postgres, PostgresOptions, Redis, RedisOptions};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::command::Base;

#[tokio::test]
async fn postgres_continues_with_kept_data_even_after_a_crash() {
    let base = Base::new();
    let options = || PostgresOptions {
        durable: true,
        keep: Keep::In(base.path().join("kept")),
        ..PostgresOptions::default()
    };
    let postgres = Postgres::start(options()).await.unwrap();
    let url = postgres.ensure_database("shop").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("CREATE TABLE kept AS SELECT 7 AS id").await.unwrap();

    let second = Postgres::start(options()).await.unwrap_err().to_string();
    assert!(second.contains("is in use by another sandbox"), "{second}");

    postgres.kill9().await.unwrap();
    drop(postgres);
    let postgres = Postgres::start(options()).await.unwrap();
    let url = postgres.ensure_database("shop").await.unwrap();
    let id: i32 = sqlx::query_scalar("SELECT id FROM kept")
        .fetch_one(&mut PgConnection::connect(&url).await.unwrap())
        .await
        .unwrap();
    assert_eq!(id, 7);
}

#[tokio::test]
async fn data_of_another_version_is_not_touched_and_the_error_says_so() {
    let base = Base::new();
    let kept = base.path().join("kept");
    std::fs::create_dir_all(kept.join("data")).unwrap();
    std::fs::write(kept.join("data/PG_VERSION"), "9\n").unwrap();
    let options = PostgresOptions { keep: Keep::In(kept.clone()), ..PostgresOptions::default() };
    let error = Postgres::start(options).await.unwrap_err().to_string();
    assert!(error.contains("was written by PostgreSQL 9"), "{error}");
    assert_eq!(std::fs::read_to_string(kept.join("data/PG_VERSION")).unwrap(), "9\n");
}

#[tokio::test]
async fn redis_continues_with_kept_data() {
    let base = Base::new();
    let options =
        || RedisOptions { keep: Keep::In(base.path().join("kept")), ..RedisOptions::default() };
    let redis = Redis::start(options()).await.unwrap();
    assert_eq!(ask(redis.port(), "SET a 1").await, "+OK\r\n");
    drop(redis);
    let redis = Redis::start(options()).await.unwrap();
    assert_eq!(ask(redis.port(), "GET a").await, "$1\r\n1\r\n");
}

async fn ask(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
