//! The depth is the number of unfinished orders, whatever has happened to Redis, or an error.

use std::time::Duration;

use holdfast_operator::queues::{OwnOrders, QueueListSettings, Queues, RedisAccess};
use holdfast_queue::Queue;
use holdfast_redis::RedisUrl;
use holdfast_sandbox::{
    Postgres, PostgresOptions, Process, ProcessOptions, Redis, until, workspace_binary,
};
use holdfast_store::{Store, StoreSettings};

use crate::{
    answers::{publish, queue, ready},
    cluster::redis,
};

const STREAM: &str = "holdfast:{orders}:stream";
const ORDERS: i64 = 4500;

struct BacklogFixture {
    postgres: Postgres,
    url: String,
    store: Store,
    redis: Redis,
    queue: Queue,
    queues: Queues,
    /// The same queue, served by an operator without a database.
    without_database: Queues,
}

impl BacklogFixture {
    /// Unfinished orders, all of them in the queue.
    async fn new() -> Self {
        let postgres = Postgres::start(PostgresOptions::default()).await.unwrap();
        let url = postgres.create_database().await.unwrap();
        let store = Store::connect(&StoreSettings::new(&url).unwrap());
        store.migrate().await.unwrap();
        sqlx::query(
            "INSERT INTO orders (product_id, quantity, unit_price_minor) \
             SELECT 1, 1, 100 FROM generate_series(1, $1)",
        )
        .bind(ORDERS)
        .execute(store.pool())
        .await
        .unwrap();
        let redis = redis().await;
        let queue = queue(&redis.url());
        ready(&queue).await;
        publish(&queue, ORDERS).await;
        let own = OwnOrders {
            namespace: "shop".to_owned(),
            release: "holdfast".to_owned(),
            store: store.clone(),
        };
        let queues = served(&redis, Some(own)).await;
        let without_database = served(&redis, None).await;
        Self { postgres, url, store, redis, queue, queues, without_database }
    }

    async fn depth(&self) -> Option<u64> {
        self.queues.all()[0].depth().await.ok()
    }

    async fn depth_without_database(&self) -> Option<u64> {
        self.without_database.all()[0].depth().await.ok()
    }

    async fn unfinished(&self) -> u64 {
        self.store.count_unfinished(None).await.unwrap()
    }

    async fn lose(&self, how: &str) {
        if how == "restart" {
            self.redis.kill9().await.unwrap();
            self.redis.restart().await.unwrap();
        } else {
            self.redis.command(how).await.unwrap();
        }
    }

    async fn worker(&self) -> Process {
        let binary = workspace_binary("holdfast-worker").unwrap();
        let options = ProcessOptions::new(binary)
            .arg("run")
            .env("DATABASE_URL", &self.url)
            .env("REDIS_URL", self.redis.url())
            .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
            .env("HOLDFAST_WORKER_CONCURRENCY", "64")
            .env("HOLDFAST_FULFILMENT_MS", "100");
        Process::start(options).await.unwrap()
    }
}

async fn served(redis: &Redis, own: Option<OwnOrders>) -> Queues {
    let settings = QueueListSettings::One {
        namespace: "shop".to_owned(),
        release: "holdfast".to_owned(),
        redis_url: redis.url().parse::<RedisUrl>().unwrap(),
    };
    let reach = RedisAccess { timeout: Duration::from_secs(5), redis_ca: None };
    Queues::load(settings, reach, own).await.unwrap()
}

fn losses() -> Vec<String> {
    let trimmed = [0, 100, 4400].map(|left| format!("XTRIM {STREAM} MAXLEN {left}"));
    let others = [
        "FLUSHALL".to_owned(),
        "restart".to_owned(),
        format!("DEL {STREAM}"),
        format!("XGROUP DESTROY {STREAM} fulfilment"),
    ];
    others.into_iter().chain(trimmed).collect()
}

/// The same losses on a cluster with KEDA: what happened, the unfinished orders, and what the chart's trigger and KEDA's
/// Redis Streams scaler said (by `lagCount`, by `streamLength`), as scripts/e2e-keda has measured it.
fn measured_with_keda() -> Vec<(String, [u64; 4])> {
    let page = include_str!("../../../../docs/e2e-keda.md");
    let table = page.split("## What the scalers say").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    rows.skip(1)
        .map(|row| {
            let numbers = [1, 2, 3, 4].map(|at| row[at].parse().unwrap());
            (row[0].trim_matches('`').to_owned(), numbers)
        })
        .collect()
}

#[tokio::test]
async fn the_depth_is_right_where_kedas_redis_streams_scaler_is_not() {
    let mut wrong = 0;
    let table = measured_with_keda();
    assert_eq!(table.len(), 5, "{table:?}");
    for (what, [unfinished, trigger, lag, length]) in table {
        assert_eq!(trigger, unfinished, "the chart's trigger after {what}");
        let how = match what.as_str() {
            "nothing happened" => None,
            "FLUSHALL" => Some("FLUSHALL".to_owned()),
            "Redis restarted, empty" => Some("restart".to_owned()),
            "XTRIM … MAXLEN 100" => Some(format!("XTRIM {STREAM} MAXLEN 100")),
            "XGROUP DESTROY" => Some(format!("XGROUP DESTROY {STREAM} fulfilment")),
            other => panic!("what is {other}?"),
        };
        let backlog = BacklogFixture::new().await;
        if let Some(how) = how {
            backlog.lose(&how).await;
        }
        until("Redis answers", async || backlog.queue.ensure_group().await.is_ok()).await;
        let depth = until("the operator answers", async || backlog.depth().await).await;
        assert_eq!(depth, ORDERS.unsigned_abs(), "after {what}");
        wrong +=
            [lag, length].iter().filter(|it| it.abs_diff(unfinished) * 20 > unfinished).count();
    }
    assert!(wrong > 0, "KEDA's scaler was right each time: why does the chart not use it?");
}

#[tokio::test]
async fn after_each_loss_the_depth_comes_from_the_database() {
    for how in losses() {
        let backlog = BacklogFixture::new().await;
        assert_eq!(backlog.depth().await, Some(4500));
        assert_eq!(backlog.depth_without_database().await, Some(4500));
        backlog.lose(&how).await;
        until("Redis answers", async || backlog.queue.ensure_group().await.is_ok()).await;
        // A closed connection is noticed when it is used.
        let depth = until("the operator answers", async || backlog.depth().await).await;
        assert_eq!(depth, 4500, "{how}");
        assert_eq!(backlog.depth_without_database().await, None, "{how}");
        let age = backlog.queues.all()[0].oldest_age().await;
        assert!(age.is_err(), "{how}: the age of the remaining orders must be refused: {age:?}");
    }
}

#[tokio::test]
async fn a_depth_that_neither_server_knows_is_an_error() {
    let backlog = BacklogFixture::new().await;
    backlog.postgres.pause().await.unwrap();
    assert_eq!(backlog.depth().await, Some(4500), "Redis has all of them");
    backlog.lose("FLUSHALL").await;
    assert_eq!(backlog.depth().await, None, "there is no group");
    backlog.queue.ensure_group().await.unwrap();
    assert_eq!(backlog.depth().await, None, "no worker has filled it");
    backlog.postgres.resume().await.unwrap();
    until("the database answers", async || backlog.depth().await == Some(4500)).await;
    backlog.redis.kill9().await.unwrap();
    assert_eq!(backlog.depth().await, None, "no worker can work without Redis");
}

/// While workers fill it again and work, no answer is too low.
#[tokio::test]
async fn the_depth_is_never_too_low_while_workers_fill_the_queue_again() {
    for how in losses() {
        let backlog = BacklogFixture::new().await;
        let _worker = backlog.worker().await;
        until("orders are completed", async || backlog.unfinished().await < 4400).await;
        backlog.lose(&how).await;
        let mut answers = 0;
        until(&format!("the queue is whole after {how}"), async || {
            let depth = backlog.depth().await;
            let unfinished = backlog.unfinished().await;
            if let Some(depth) = depth {
                answers += 1;
                assert!(depth * 100 >= unfinished * 95, "{how}: {depth} of {unfinished}");
            }
            backlog.queue.whole_depth().await.is_ok() && unfinished > 0
        })
        .await;
        assert!(answers > 0, "{how}: it was never answered");
    }
}
