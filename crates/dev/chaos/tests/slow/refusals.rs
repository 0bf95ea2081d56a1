//! Errors of PostgreSQL that are injected into every third write of orders. They affect batches of the API and outcomes
//! of workers.

use holdfast_chaos::environment::{Environment, EnvironmentOptions};
use holdfast_sandbox::{PATIENCE, until};
use sqlx::{AssertSqlSafe, Executor as _};

async fn every_third_write_fails_with(code: &str) {
    let environment = Environment::start(&EnvironmentOptions::default()).await.unwrap();
    let mut connection = environment.connect().await.unwrap();
    // A sequence also counts writes that are rolled back.
    let inject = format!(
        "CREATE SEQUENCE writes; \
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('writes') % 3 = 0 THEN RAISE 'injected' USING ERRCODE = '{code}'; END IF; \
         RETURN NULL; END $$; \
         CREATE TRIGGER fail AFTER INSERT OR UPDATE ON orders \
         FOR EACH STATEMENT EXECUTE FUNCTION fail(); \
         CREATE TRIGGER fail AFTER INSERT ON unfinished_orders \
         FOR EACH STATEMENT EXECUTE FUNCTION fail()"
    );
    connection.execute(AssertSqlSafe(inject)).await.unwrap();
    let clients = environment.clients(4);
    let writes = "SELECT last_value FROM writes";
    clients.more(100).await.unwrap();
    until("many writes were tried", async || {
        sqlx::query_scalar::<_, i64>(writes).fetch_one(&mut connection).await.unwrap() >= 60
    })
    .await;
    connection
        .execute("DROP TRIGGER fail ON orders; DROP TRIGGER fail ON unfinished_orders")
        .await
        .unwrap();
    let seen = clients.stop().await;
    // Refusals were 503 with Retry-After, because other answers are findings.
    let findings = environment.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}\n{:?}", seen.answers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks() {
    every_third_write_fails_with("40P01").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serialisation_failures() {
    every_third_write_fails_with("40001").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_on_the_disk_for_a_statement() {
    every_third_write_fails_with("53100").await;
}
