//! An order, a sweep and a page of a list cost as much with many orders as with few. The cost is measured in pages and
//! rows of the statements that the programs send, not in time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use holdfast_sandbox::{
    PATIENCE, Port, Postgres, PostgresOptions, Process, ProcessOptions, Ready, Redis, RedisOptions,
    until, workspace_binary,
};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::explained::{EXPLAIN, Explained, Since};

/// With this number of orders, the indexes have as many levels as with millions. From 10,000 on, they have one more
/// level, and each index that is read or written costs one more page.
const FEW: i64 = 200_000;
const MANY: i64 = 600_000;
/// The number of additional pages that are not a growth: two indexes may have one more level each.
const LEVELS: f64 = 2.0;
/// The number of orders instead of [`MANY`]; 10 million take minutes and 10 GB.
const VARIABLE: &str = "HOLDFAST_GROWTH_ROWS";

/// The repetitions of each operation.
const TIMES: u32 = 50;
/// Orders that are not in Redis.
const LOST: i64 = 100;

/// $1 orders of 100 products, and of so many customers that each has 100. All have two lines. Product 101 and one
/// customer have the oldest 100 orders, and product 102 has none. Each order has its entries in the stock ledger, and
/// every tenth a used hold. Keys and dead letters do not grow with the number of orders: keys are deleted after a day,
/// and dead letters are handled by operators.
const ORDERS: [&str; 5] = [
    "INSERT INTO products (name, price_minor, stock) \
        SELECT 'Product ' || i, 100, 1000000 FROM generate_series(1, 102) AS i",
    "INSERT INTO orders (product_id, quantity, unit_price_minor, status, attempt, customer_ref, line_count, \
            created_at, processing_at, finished_at) \
        SELECT CASE WHEN i <= 100 THEN 101 ELSE i * 7919 % 100 + 1 END, 1, 100, \
            CASE WHEN i % ($1 / 100) = 0 THEN 'failed' ELSE 'completed' END, 1, \
            CASE WHEN i <= 100 THEN 'of long ago' ELSE 'customer ' || i * 104729 % ($1 / 100) END, 2, at, at, at FROM ( \
            SELECT i, now() - ($1 + 3600 - i) * interval '1 s' AS at FROM generate_series(1, $1) AS i) AS made \
        ORDER BY i",
    "INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_minor) \
        SELECT i, 2, i * 31 % 100 + 1, 1, 100 FROM generate_series(1, $1) AS i",
    "INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after, sold) \
        SELECT i % 100 + 1, 2 + i / 100, 'admission', -1, 1000000, 0, 1 FROM generate_series(0, $1 - 1) AS i",
    "INSERT INTO holds (product_id, quantity, unit_price_minor, status, customer_ref, expires_at, ended_at, order_id) \
        SELECT i % 100 + 1, 1, 100, 'used', 'customer ' || i, now(), now(), i FROM generate_series(5, $1, 10) AS i",
];

/// The indexes are created after the rows, which takes a tenth of the time.
const WITHOUT_INDEXES: &str = "CREATE TABLE set_aside AS \
        SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS text FROM pg_index \
        WHERE indrelid IN ('orders'::regclass, 'order_lines'::regclass, 'holds'::regclass) \
            AND NOT indisprimary; \
    DO $$ DECLARE one record; BEGIN \
        FOR one IN SELECT * FROM set_aside LOOP EXECUTE 'DROP INDEX ' || one.name; END LOOP; END $$";
const WITH_INDEXES: &str = "DO $$ DECLARE one record; BEGIN \
        FOR one IN SELECT * FROM set_aside LOOP EXECUTE one.text; END LOOP; END $$; \
    DROP TABLE set_aside; \
    UPDATE products SET version = 2 + (SELECT max(version) FROM stock_ledger)";

/// The average cost of an operation.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    buffers: f64,
    rows: f64,
}

type Costs = BTreeMap<&'static str, Cost>;

fn cost<'a>(explained: impl IntoIterator<Item = &'a Explained>, times: u32) -> Cost {
    let (mut buffers, mut rows) = (0, 0);
    for it in explained {
        buffers += it.buffers;
        rows += it.rows;
    }
    #[allow(clippy::cast_precision_loss)]
    let each = |sum: u64| sum as f64 / f64::from(times);
    assert!(buffers > 0 && times > 0, "nothing was explained");
    Cost { buffers: each(buffers), rows: each(rows) }
}

/// An environment with this number of orders.
struct GrowthEnvironment<'a> {
    postgres: &'a Postgres,
    redis: Redis,
    url: String,
    api: Port,
    internal: Port,
}

impl<'a> GrowthEnvironment<'a> {
    async fn open(postgres: &'a Postgres, orders: i64) -> Self {
        let url = postgres.create_database().await.unwrap();
        let environment = Self {
            postgres,
            redis: Redis::start(RedisOptions::default()).await.unwrap(),
            url,
            api: Port::lease().unwrap(),
            internal: Port::lease().unwrap(),
        };
        let migrate = environment.program("holdfast-api", "migrate");
        let migrate = Process::start(migrate).await.unwrap();
        assert!(migrate.wait(PATIENCE).await.unwrap().success(), "{}", migrate.log_tail(20));
        let mut sql = environment.sql().await;
        sqlx::raw_sql(WITHOUT_INDEXES).execute(&mut sql).await.unwrap();
        for statement in ORDERS {
            let query = sqlx::query(statement);
            let query = if statement.contains("$1") { query.bind(orders) } else { query };
            query.execute(&mut sql).await.unwrap();
        }
        sqlx::raw_sql(WITH_INDEXES).execute(&mut sql).await.unwrap();
        sqlx::raw_sql("VACUUM ANALYZE").execute(&mut sql).await.unwrap();
        // From here on, for new sessions. The current session does not change.
        sqlx::raw_sql(EXPLAIN).execute(&mut sql).await.unwrap();
        environment
    }

    /// A session whose statements are not explained.
    async fn sql(&self) -> PgConnection {
        let options: PgConnectOptions = self.url.parse().unwrap();
        options.options([("auto_explain.log_min_duration", "-1")]).connect().await.unwrap()
    }

    fn program(&self, name: &str, command: &str) -> ProcessOptions {
        ProcessOptions::new(workspace_binary(name).unwrap())
            .arg(command)
            .env("DATABASE_URL", &self.url)
            .env("REDIS_URL", self.redis.url())
            .env("HOLDFAST_METRICS_ADDR", self.internal.address().to_string())
    }

    async fn start(&self, options: ProcessOptions) -> Process {
        let ready = Ready::Http(format!("http://{}/readyz", self.internal.address()));
        Process::start(options.ready(ready)).await.unwrap()
    }

    /// Stops a program. Returns when all its statements are in the log.
    async fn end(&self, process: Process) {
        assert!(process.stop(PATIENCE).await.unwrap().success(), "{}", process.log_tail(20));
        self.until(
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'holdfast')",
        )
        .await;
    }

    /// The statements of `act`. Returns when all are in the log.
    async fn explained(&self, act: impl AsyncFn(u32)) -> Vec<Explained> {
        let since = Since::now(self.postgres);
        for time in 0..TIMES {
            act(time).await;
        }
        self.until(
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity \
             WHERE application_name = 'holdfast' AND state <> 'idle')",
        )
        .await;
        // Periodic statements do not count.
        let mut explained = since.read(self.postgres);
        let aside = ["holds", "sales", "sale_products", "sale_seconds"];
        explained.retain(|it| it.tables.iter().any(|table| !aside.contains(&table.as_str())));
        explained
    }

    async fn until(&self, condition: &'static str) {
        let mut sql = self.sql().await;
        until(condition, async || {
            sqlx::query_scalar::<_, bool>(condition).fetch_one(&mut sql).await.unwrap()
        })
        .await;
    }

    /// Measures orders and pages of lists.
    async fn api(&self, costs: &mut Costs) {
        let api = self
            .program("holdfast-api", "serve")
            .env("HOLDFAST_HTTP_ADDR", self.api.address().to_string())
            .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
            .env("HOLDFAST_AUTH", "off");
        let api = self.start(api).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = |path: &str| format!("http://{}{path}", self.api.address());
        let order = async |time: u32| {
            let body = json!({ "product_id": time + 1, "quantity": 1, "customer_ref": format!("customer {time}") });
            let sent = http
                .post(url("/orders"))
                .header("Idempotency-Key", format!("key {time}"))
                .json(&body);
            let answer = sent.send().await.unwrap();
            assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
        };
        costs.insert("an order", cost(&self.explained(order).await, TIMES));
        for (name, path) in [
            ("a page of all orders", "/orders"),
            ("a page of one product", "/orders?product_id=7"),
            ("a page of one customer", "/orders?customer_ref=customer%207"),
            ("a page of a product with only old orders", "/orders?product_id=101"),
            ("a page of a product without orders", "/orders?product_id=102"),
            ("a page of a customer with only old orders", "/orders?customer_ref=of%20long%20ago"),
            ("a page of one status", "/orders?status=completed"),
            ("a page of dead letters", "/orders?status=failed"),
            ("a page of one product's ledger", "/products/7/stock-ledger"),
        ] {
            let page = async |_| {
                let answer = http.get(url(path)).send().await.unwrap();
                assert_eq!(answer.status(), 200, "{path}");
                let items: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                let expected = if path.ends_with("=102") { 0 } else { 100 };
                assert_eq!(items.as_array().unwrap().len(), expected, "{path}");
            };
            costs.insert(name, cost(&self.explained(page).await, TIMES));
        }
        let one = async |time: u32| {
            let answer =
                http.get(url(&format!("/orders/{}", time * 100 + 1))).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        };
        costs.insert("one order read", cost(&self.explained(one).await, TIMES));
        self.end(api).await;
    }

    /// Measures the fulfilment of the new orders, one at a time, and sweeps.
    async fn worker(&self, costs: &mut Costs) {
        let lost = "INSERT INTO orders (product_id, quantity, unit_price_minor, created_at) \
            SELECT i, 1, 100, now() - interval '30 minutes' FROM generate_series(1, $1) AS i";
        sqlx::query(lost).bind(LOST).execute(&mut self.sql().await).await.unwrap();
        let since = Since::now(self.postgres);
        let worker = self
            .program("holdfast-worker", "run")
            .env("HOLDFAST_WORKER_CONCURRENCY", "1")
            .env("HOLDFAST_FULFILMENT_MS", "0")
            // Longer than the fulfilment takes, so that no order is found twice.
            .env("HOLDFAST_SWEEP_AFTER_MS", "10000")
            .env("HOLDFAST_SWEEP_INTERVAL_MS", "100");
        let worker = self.start(worker).await;
        self.until(
            "SELECT NOT EXISTS (SELECT FROM orders WHERE status IN ('pending', 'processing'))",
        )
        .await;
        let is_sweep = |it: &&Explained| it.text.contains("left_behind AS MATERIALIZED");
        // The first sweeps read the dead rows of the fulfilment and remove them.
        let enough = 20;
        let idle = || {
            let explained = since.read(self.postgres);
            explained.iter().filter(|it| is_sweep(it) && it.returned == 0).count()
        };
        worker.until("it sweeps", async || idle() >= enough).await;
        self.end(worker).await;
        let explained = since.read(self.postgres);
        let found = explained.iter().filter(|it| is_sweep(it) && it.returned > 0);
        // For the first worker, the queue is new, so it also looks for published orders.
        assert!(found.clone().map(|it| it.returned).sum::<u64>() >= LOST.unsigned_abs());
        costs.insert("a sweep that finds 100 orders", cost(found, 1));
        let idle = explained.iter().filter(|it| is_sweep(it) && it.returned == 0);
        costs.insert("a sweep that finds nothing", cost(idle.rev().take(10), 10));
        let work = explained.iter().filter(|it| {
            it.text.contains("attempt = attempt + 1") || it.text.contains("done.delay_ms")
        });
        let orders = TIMES + u32::try_from(LOST).unwrap();
        costs.insert("an order's fulfilment", cost(work, orders));
    }
}

async fn costs(postgres: &Postgres, orders: i64) -> Costs {
    let environment = GrowthEnvironment::open(postgres, orders).await;
    let mut costs = Costs::default();
    environment.api(&mut costs).await;
    environment.worker(&mut costs).await;
    costs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_orders_cost_no_more_than_few() {
    let many = std::env::var(VARIABLE).map_or(MANY, |rows| rows.parse().unwrap());
    let settings = [
        ("shared_buffers", "256MB"),
        ("maintenance_work_mem", "256MB"),
        ("max_wal_size", "2GB"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        // It would write at the same time.
        ("autovacuum", "off"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).await.unwrap();
    let few = costs(&postgres, FEW).await;
    let many_costs = costs(&postgres, many).await;
    let mut table = format!(
        "| | pages, {FEW} orders | {many} | rows, {FEW} orders | {many} |\n|---|--:|--:|--:|--:|\n"
    );
    let mut dearer = Vec::new();
    for (name, few) in &few {
        let many = many_costs[name];
        let Cost { buffers, rows } = *few;
        writeln!(
            table,
            "| {name} | {buffers:.1} | {:.1} | {rows:.1} | {:.1} |",
            many.buffers, many.rows
        )
        .unwrap();
        // One more row now and then is not a growth.
        if many.buffers > buffers * 1.2 + LEVELS || many.rows > rows * 1.2 + 1.0 {
            dearer.push(*name);
        }
    }
    println!("{table}");
    assert!(dearer.is_empty(), "{dearer:?} cost more:\n{table}");
}
