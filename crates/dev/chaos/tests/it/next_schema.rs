//! These binaries beside the schema of a next release, which expands each table: its migration runs while they
//! take orders and do them.

use std::time::{Duration, Instant};

use holdfast_chaos::world::{World, WorldOptions};
use sqlx::{AssertSqlSafe, Executor as _};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_on_while_the_next_release_expands_each_table() {
    let world = World::start(&WorldOptions::default()).await.unwrap();
    let mut connection = world.connect().await.unwrap();
    let clients = world.clients(4);
    let more = async |count: usize| {
        let (before, begun) = (clients.accepted(), Instant::now());
        while clients.accepted() < before + count {
            let answers = clients.look(|seen| seen.answers.clone());
            assert!(begun.elapsed() < PATIENCE, "orders are not accepted: {answers:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    more(50).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
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
    more(50).await;
    // One that starts only now finds its way, too.
    world.workers[0].kill9().await.unwrap();
    world.workers[0].start().await.unwrap();
    world.apis[0].kill9().await.unwrap();
    world.apis[0].start().await.unwrap();
    world.ready(PATIENCE).await.unwrap();
    more(50).await;
    let seen = clients.stop().await;
    let findings = world.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}\n{:?}", seen.answers);
    for kind in seen.answers.keys() {
        // Those that the killed replica had in hand; nobody else.
        let expected = ["201", "none", "cut off"];
        assert!(expected.contains(&kind.as_str()), "{:?}", seen.answers);
    }
}
