//! The current programs with the schema of a next release, which expands each table: its migration runs while they
//! accept and fulfil orders.

use holdfast_chaos::environment::{Environment, EnvironmentOptions};
use holdfast_sandbox::PATIENCE;
use sqlx::{AssertSqlSafe, Executor as _};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_continue_while_the_next_release_expands_each_table() {
    let environment = Environment::start(&EnvironmentOptions::default()).await.unwrap();
    let mut connection = environment.connect().await.unwrap();
    let clients = environment.clients(4);
    clients.more(50).await.unwrap();
    // Tables that inherit are expanded with their parent.
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' \
             AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = table_name::text::regclass)",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(tables.len() > 8, "{tables:?}");
    for table in &tables {
        let expand = format!(
            "ALTER TABLE {table} ADD COLUMN of_the_next_release integer NOT NULL DEFAULT 1; \
             CREATE INDEX ON {table} (of_the_next_release)"
        );
        connection.execute(AssertSqlSafe(expand)).await.unwrap();
    }
    clients.more(50).await.unwrap();
    // A program that starts only now works as well.
    environment.workers[0].kill9().await.unwrap();
    environment.workers[0].start().await.unwrap();
    environment.apis[0].kill9().await.unwrap();
    environment.apis[0].start().await.unwrap();
    environment.ready(PATIENCE).await.unwrap();
    clients.more(50).await.unwrap();
    let seen = clients.stop().await;
    let findings = environment.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}\n{:?}", seen.answers);
    for kind in seen.answers.keys() {
        // Requests that were in flight on the killed replica, or that a step of the migration delayed on a busy machine.
        let expected = ["201", "none", "cut off", "503 locked", "503 overloaded"];
        assert!(expected.contains(&kind.as_str()), "{:?}", seen.answers);
    }
}
