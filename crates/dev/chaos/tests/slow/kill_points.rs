//! Processes that are killed at a specific point.

use holdfast_bench::audit::Log;
use holdfast_bench::load::Accepted;
use holdfast_chaos::clients::ClientsRecord;
use holdfast_chaos::environment::{Environment, EnvironmentOptions, STOCK};
use holdfast_sandbox::{PATIENCE, http_post_json, until};
use serde_json::{Value, json};
use sqlx::Executor as _;

/// An environment with one process of each kind.
async fn environment() -> Environment {
    let options =
        EnvironmentOptions { apis: 1, workers: 1, products: 1, ..EnvironmentOptions::default() };
    Environment::start(&options).await.unwrap()
}

async fn count(environment: &Environment, condition: &str) -> i64 {
    let text = format!("SELECT count(*) FROM orders WHERE {condition}");
    let mut connection = environment.connect().await.unwrap();
    sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&mut connection).await.unwrap()
}

/// Places an order. Returns the status and the id of the answer, if there is one.
fn order(environment: &Environment) -> tokio::task::JoinHandle<Option<(u16, Value)>> {
    let url = format!("http://{}/orders", environment.apis[0].address());
    tokio::spawn(async move {
        let body = json!({ "product_id": 1, "quantity": 1 });
        let answer = http_post_json(&url, &body).await.ok()?;
        Some((answer.status, answer.json().unwrap()["id"].clone()))
    })
}

/// The clients' record: these orders, and the number of orders without an answer.
fn seen(accepted: &[i64], cut_off: u64) -> ClientsRecord {
    let accepted =
        accepted.iter().map(|id| Accepted { id: *id, product_id: 1, quantity: 1 }).collect();
    let initial_stock = [(1, STOCK)].into_iter().collect();
    let log = Log { initial_stock, accepted, cut_off, ..Log::default() };
    ClientsRecord { log, ..ClientsRecord::default() }
}

async fn audit(environment: &Environment, seen: &ClientsRecord, orders: i64) {
    let findings = environment.audit(seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}");
    assert_eq!(findings.orders, orders, "{findings}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_killed_between_commit_and_answer() {
    let environment = environment().await;
    environment.api_postgres.deaf_after(Some(b"COMMIT"));
    let order = order(&environment);
    until("the order is committed", async || count(&environment, "true").await == 1).await;
    assert_eq!(environment.api_postgres.deaf(), 1, "and the answer to its commit was lost");
    environment.apis[0].kill9().await.unwrap();
    assert_eq!(order.await.unwrap(), None, "the client has no answer");
    audit(&environment, &seen(&[], 1), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_killed_between_commit_and_publish() {
    let environment = environment().await;
    environment.api_redis.blackhole(true);
    let (status, id) = order(&environment).await.unwrap().unwrap();
    assert_eq!(status, 201);
    assert_eq!(count(&environment, "status = 'pending'").await, 1, "it was not published");
    environment.apis[0].kill9().await.unwrap();
    environment.api_redis.cut();
    audit(&environment, &seen(&[id.as_i64().unwrap()], 0), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_killed_during_a_batch() {
    let environment = environment().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_sleep(4); RETURN NULL; END $$; \
                CREATE TRIGGER slow AFTER INSERT ON unfinished_orders FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    let mut connection = environment.connect().await.unwrap();
    connection.execute(slow).await.unwrap();
    let orders: Vec<_> = (0..20).map(|_| order(&environment)).collect();
    until("the batch is being written", async || {
        let text = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')";
        let mut connection = environment.connect().await.unwrap();
        sqlx::query_scalar::<_, bool>(text).fetch_one(&mut connection).await.unwrap()
    })
    .await;
    environment.apis[0].kill9().await.unwrap();
    for order in orders {
        assert_eq!(order.await.unwrap(), None);
    }
    // PostgreSQL notices the disconnect at the end of the statement, which the trigger delays.
    connection.execute("DROP TRIGGER slow ON unfinished_orders").await.unwrap();
    audit(&environment, &seen(&[], 0), 0).await;
    environment.apis[0].start().await.unwrap();
    environment.ready(PATIENCE).await.unwrap();
    let (status, id) = order(&environment).await.unwrap().unwrap();
    assert_eq!(status, 201, "its locks are gone");
    audit(&environment, &seen(&[id.as_i64().unwrap()], 0), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_killed_before_its_claim() {
    let environment = environment().await;
    // It reads the message and cannot claim the order.
    environment.worker_postgres.blackhole(true);
    let (_, id) = order(&environment).await.unwrap().unwrap();
    let taken = async || {
        let answer =
            environment.redis().command("XPENDING holdfast:{orders}:stream fulfilment").await;
        answer.unwrap().starts_with("*4\r\n:1\r\n")
    };
    until("the message is a worker's", taken).await;
    environment.workers[0].kill9().await.unwrap();
    assert_eq!(count(&environment, "attempt = 0").await, 1);
    environment.worker_postgres.cut();
    environment.worker_postgres.blackhole(false);
    environment.workers[0].start().await.unwrap();
    audit(&environment, &seen(&[id.as_i64().unwrap()], 0), 1).await;
    assert_eq!(environment.downstream.counts(), (1, 0), "done once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_killed_between_commit_and_acknowledgement() {
    let environment = environment().await;
    environment.downstream.pause(true);
    let (_, id) = order(&environment).await.unwrap().unwrap();
    until("it is at work", async || count(&environment, "status = 'processing'").await == 1).await;
    environment.worker_redis.blackhole(true);
    environment.downstream.pause(false);
    until("it is done", async || count(&environment, "status = 'completed'").await == 1).await;
    environment.workers[0].kill9().await.unwrap();
    environment.worker_redis.cut();
    environment.worker_redis.blackhole(false);
    let pending = "XPENDING holdfast:{orders}:stream fulfilment";
    let answer = environment.redis().command(pending).await.unwrap();
    assert!(answer.starts_with("*4\r\n:1\r\n"), "the message is still there: {answer}");
    environment.workers[0].start().await.unwrap();
    until("the message is acknowledged", async || {
        environment.redis().command(pending).await.unwrap().starts_with("*4\r\n:0\r\n")
    })
    .await;
    audit(&environment, &seen(&[id.as_i64().unwrap()], 0), 1).await;
    assert_eq!(count(&environment, "attempt = 1").await, 1, "and was not started again");
    assert_eq!(environment.downstream.counts(), (1, 0), "done once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_an_expired_lease_writes_no_result() {
    let environment = environment().await;
    environment.downstream.pause(true);
    let (_, id) = order(&environment).await.unwrap().unwrap();
    until("it is at work", async || count(&environment, "status = 'processing'").await == 1).await;
    let late = &environment.workers[0];
    late.with(async |process| process.pause()).await.unwrap();
    // Its lease expires, and another worker claims the order and fails it.
    until("its lease is over", async || count(&environment, "lease_until < now()").await == 1)
        .await;
    let mut connection = environment.connect().await.unwrap();
    connection
        .execute(
            "UPDATE orders SET attempt = attempt + 1, lease_until = now() + interval '5 minutes'",
        )
        .await
        .unwrap();
    environment.downstream.pause(false);
    late.with(async |process| process.resume()).await.unwrap();
    // It is alive and processes other orders, and has not changed the order.
    let (_, next) = order(&environment).await.unwrap().unwrap();
    until("it does other work", async || count(&environment, "status = 'completed'").await == 1)
        .await;
    assert_eq!(count(&environment, "status = 'processing' AND attempt = 2").await, 1);
    connection
        .execute("UPDATE orders SET lease_until = now() WHERE status = 'processing'")
        .await
        .unwrap();
    let ids = [id.as_i64().unwrap(), next.as_i64().unwrap()];
    audit(&environment, &seen(&ids, 0), 2).await;
}
