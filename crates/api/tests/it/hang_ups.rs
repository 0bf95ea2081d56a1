//! Clients that hang up at any moment of any writing request, beside others that wait for their answers: whatever was
//! answered as done is there.
//!
//! The variables `TEST_HANG_UPS` and `TEST_FREEZE_MS` make it larger.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions, until};
use holdfast_store::{Store, StoreSettings};
use rand::Rng as _;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

use crate::{
    openapi::{documents, operations},
    server::Server,
};

const HANG_UPS: usize = 600;
const FREEZE: u64 = 3000;
/// Answers of success that are enough.
const WRITES: usize = 2000;
/// Requests of each kind of client while the database is frozen.
const STOCK: usize = 200;
/// The test itself waits for as long as the database may be frozen.
const LOOK_LIMIT: Duration = Duration::from_mins(3);
/// Clients that hang up, and clients that wait.
const RUDE: usize = 16;
const POLITE: usize = 16;

/// A parameter of these tests.
fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// What one request works on: fresh, and nobody else's.
#[derive(Debug, sqlx::FromRow)]
pub struct Given {
    number: i64,
    pub product: i64,
    pub pending: i64,
    pub failed: i64,
    pub hold: i64,
    #[sqlx(skip)]
    stays: bool,
}

impl Given {
    /// `stays` says who takes the sale away again: there may be a thousand. Keys end by themselves.
    async fn make(look: &PgPool, stays: bool) -> Self {
        let mut given: Self = sqlx::query_as(
            "WITH product AS (INSERT INTO products (name, price_minor, stock, held) \
                 VALUES ('Lamp', 100, 100, 1) RETURNING id), \
             made AS (INSERT INTO orders (product_id, quantity, unit_price_minor, status, \
                     processing_at, finished_at) \
                 SELECT id, 1, 100, status, now(), CASE WHEN status = 'failed' THEN now() END \
                 FROM product, (VALUES ('pending'), ('failed')) AS kind (status) \
                 RETURNING id, status), \
             held AS (INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
                 SELECT id, 1, 100, now() + interval '1 hour' FROM product RETURNING id) \
             SELECT nextval('orders_id_seq') AS number, (SELECT id FROM product) AS product, \
                 (SELECT id FROM made WHERE status = 'pending') AS pending, \
                 (SELECT id FROM made WHERE status = 'failed') AS failed, \
                 (SELECT id FROM held) AS hold",
        )
        .fetch_one(look)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO api_keys (id, secret_sha256, name, scopes, expires_at) \
             VALUES ($1, sha256($1::text::bytea), 'test', '{orders:read}', now() + interval '5 s')",
        )
        .bind(given.key())
        .execute(look)
        .await
        .unwrap();
        given.stays = stays;
        sqlx::query(
            "WITH gone AS (DELETE FROM sales \
                 WHERE name LIKE 'goes-%' AND created_at < now() - interval '2 s'), \
             sale AS (INSERT INTO sales (name, starts_at, ends_at, after_order) \
                 SELECT $1, now() + interval '1 hour', now() + interval '2 hours', 0 RETURNING id) \
             INSERT INTO sale_products (sale_id, product_id, summed_to) SELECT id, $2, 1 FROM sale",
        )
        .bind(given.sale())
        .bind(given.product)
        .execute(look)
        .await
        .unwrap();
        given
    }

    pub fn key(&self) -> String {
        format!("{:012}", self.number)
    }

    pub fn sale(&self) -> String {
        format!("{}-{}", if self.stays { "stays" } else { "goes" }, self.number)
    }
}

type Done = Box<dyn Fn(&Value) -> String + Send>;

/// A request, and what the database must say once it was answered with success.
pub struct WriteCase {
    pub method: Method,
    pub path: String,
    pub body: Value,
    done: Done,
}

#[allow(clippy::too_many_lines)] // a line or two for each operation
pub fn write_case(operation: &str, it: &Given) -> Option<WriteCase> {
    let by = || json!({ "by": "ada" });
    let order_is = |id: i64, status: &'static str| {
        let sql = format!("(SELECT status = '{status}' FROM orders WHERE id = {id})");
        move |_: &Value| sql.clone()
    };
    let exists = |table: &'static str| {
        move |answer: &Value| {
            let id =
                answer["id"].as_str().map_or_else(|| answer["id"].to_string(), ToOwned::to_owned);
            format!("EXISTS (SELECT FROM {table} WHERE id::text = '{id}')")
        }
    };
    let product_is = |condition: String| {
        let sql = format!("(SELECT {condition} FROM products WHERE id = {})", it.product);
        move |_: &Value| sql.clone()
    };
    let sql = |sql: String| move |_: &Value| sql.clone();
    let (path, body, done): (String, Value, Done) = match operation {
        "post /products" => (
            "/products".to_owned(),
            json!({ "name": "Vase", "price": 12.5, "stock": 5 }),
            Box::new(exists("products")),
        ),
        "put /products/{id}" => (
            format!("/products/{}", it.product),
            json!({ "price": 77.25 }),
            Box::new(product_is("price_minor = 7725".to_owned())),
        ),
        "delete /products/{id}" => (
            format!("/products/{}", it.product),
            Value::Null,
            Box::new(product_is("retired_at IS NOT NULL".to_owned())),
        ),
        "post /products/{id}/stock" => (
            format!("/products/{}/stock", it.product),
            json!({ "delta": 11, "reason": "adjustment" }),
            Box::new(product_is("stock = 111".to_owned())),
        ),
        "post /orders" => (
            "/orders".to_owned(),
            json!({ "product_id": it.product, "quantity": 1 }),
            Box::new(exists("orders")),
        ),
        "post /orders/{id}/cancel" => (
            format!("/orders/{}/cancel", it.pending),
            Value::Null,
            Box::new(order_is(it.pending, "cancelled")),
        ),
        "post /holds" => (
            "/holds".to_owned(),
            json!({ "product_id": it.product, "quantity": 1 }),
            Box::new(exists("holds")),
        ),
        "delete /holds/{id}" => (
            format!("/holds/{}", it.hold),
            Value::Null,
            Box::new(sql(format!(
                "(SELECT status = 'released' FROM holds WHERE id = {})",
                it.hold
            ))),
        ),
        "post /api-keys" => (
            "/api-keys".to_owned(),
            json!({ "name": "test", "scopes": ["orders:read"] }),
            Box::new(exists("api_keys")),
        ),
        "delete /api-keys/{id}" => (
            format!("/api-keys/{}", it.key()),
            Value::Null,
            Box::new(sql(format!(
                "(SELECT revoked_at IS NOT NULL FROM api_keys WHERE id = '{}')",
                it.key()
            ))),
        ),
        "put /sales/{name}" => (
            format!("/sales/{}", it.sale()),
            json!({
                "products": [it.product], "per_customer": 2,
                "starts_at": "2036-11-27T10:00:00Z", "ends_at": "2036-11-27T12:00:00Z",
            }),
            Box::new(sql(format!(
                "(SELECT per_customer = 2 FROM sales WHERE name = '{}')",
                it.sale()
            ))),
        ),
        "delete /sales/{name}" => (
            format!("/sales/{}", it.sale()),
            Value::Null,
            Box::new(sql(format!("NOT EXISTS (SELECT FROM sales WHERE name = '{}')", it.sale()))),
        ),
        "post /dead-letters/replay" => (
            "/dead-letters/replay".to_owned(),
            json!({ "by": "ada", "ids": [it.failed] }),
            Box::new(order_is(it.failed, "pending")),
        ),
        "post /dead-letters/{id}/replay" => (
            format!("/dead-letters/{}/replay", it.failed),
            by(),
            Box::new(order_is(it.failed, "pending")),
        ),
        "post /dead-letters/{id}/discard" => (
            format!("/dead-letters/{}/discard", it.failed),
            by(),
            Box::new(order_is(it.failed, "cancelled")),
        ),
        // It writes nothing that could be lost.
        "put /log-level" => {
            ("/log-level".to_owned(), json!({ "log": "info" }), Box::new(sql("true".to_owned())))
        }
        _ => return None,
    };
    let method = operation.split(' ').next().unwrap().to_uppercase();
    Some(WriteCase { method: Method::from_bytes(method.as_bytes()).unwrap(), path, body, done })
}

/// Every writing operation of the documents, and whether it is one for operators.
fn writing_operations() -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (document, is_admin) in documents().iter().zip([false, true]) {
        for (path, method, _) in operations(document) {
            if !matches!(&*method, "GET" | "HEAD" | "OPTIONS") {
                found.push((format!("{} {path}", method.to_lowercase()), is_admin));
            }
        }
    }
    found
}

#[test]
fn every_writing_operation_has_a_case() {
    let given = Given { number: 1, product: 1, pending: 1, failed: 1, hold: 1, stays: false };
    let operations = writing_operations();
    assert!(operations.len() >= 15, "{operations:?}");
    for (operation, _) in operations {
        assert!(write_case(&operation, &given).is_some(), "{operation} has no case here");
    }
}

/// One server and what is known of it.
pub struct Trial {
    pub server: Server,
    pub look: PgPool,
    pub operations: Vec<(String, bool)>,
    hang_ups: AtomicUsize,
    writes: AtomicUsize,
    /// Made before the database is frozen, for the time in which it is.
    stock: [parking_lot::Mutex<Vec<Given>>; 2],
    frozen: AtomicBool,
    /// By operation: how often it was answered with success, and otherwise.
    answers: parking_lot::Mutex<BTreeMap<(String, u16), usize>>,
    /// What must be true of the database.
    done: parking_lot::Mutex<Vec<(String, String)>>,
}

impl Trial {
    pub async fn on(database_url: &str, settings: &[(&str, &str)]) -> Arc<Self> {
        Self::watched(database_url, database_url, settings).await
    }

    /// With another way to the database for the test itself.
    pub async fn watched(
        database_url: &str,
        look_url: &str,
        settings: &[(&str, &str)],
    ) -> Arc<Self> {
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        let server = Server::on(database_url, redis, settings).await;
        let look = PgPoolOptions::new()
            .max_connections(30)
            .acquire_timeout(LOOK_LIMIT)
            .connect(look_url)
            .await
            .unwrap();
        Arc::new(Self {
            server,
            look,
            operations: writing_operations(),
            hang_ups: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            stock: Default::default(),
            frozen: AtomicBool::new(false),
            answers: parking_lot::Mutex::default(),
            done: parking_lot::Mutex::default(),
        })
    }

    pub async fn given(&self, stays: bool) -> Given {
        let stocked =
            self.frozen.load(Ordering::SeqCst).then(|| self.stock[usize::from(stays)].lock().pop());
        match stocked.flatten() {
            Some(given) => given,
            None => Given::make(&self.look, stays).await,
        }
    }

    /// Sends a request and goes away at some moment, maybe before it is complete.
    async fn hang_up(&self) {
        let (case, is_admin, wait, part) = {
            let at = rand::rng().random_range(0..self.operations.len());
            let (operation, is_admin) = &self.operations[at];
            let given = self.given(false).await;
            let case = write_case(operation, &given).unwrap();
            let wait = Duration::from_micros(rand::rng().random_range(0..6000));
            (case, *is_admin, wait, rand::rng().random_range(0..10))
        };
        let client = if is_admin { &self.server.admin } else { &self.server.api };
        let body = if case.body.is_null() { String::new() } else { case.body.to_string() };
        let request = format!(
            "{} {} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            case.method,
            case.path,
            body.len()
        );
        // The server may refuse more connections than it can have.
        let Ok(mut stream) = TcpStream::connect(&client.address).await else { return };
        let _ = stream.set_nodelay(true);
        let end = if part == 0 { request.len() / 2 } else { request.len() };
        let _ = stream.write_all(&request.as_bytes()[..end]).await;
        // Anywhere in the request's life.
        tokio::time::sleep(wait).await;
        drop(stream);
        self.hang_ups.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends a request, waits for its answer, and keeps in mind what that says. Says whether it was success.
    pub async fn write(&self, at: usize) -> bool {
        let (operation, is_admin) = &self.operations[at % self.operations.len()];
        let given = self.given(true).await;
        let case = write_case(operation, &given).unwrap();
        let client = if *is_admin { &self.server.admin } else { &self.server.api };
        let body = if case.body.is_null() { String::new() } else { case.body.to_string() };
        let headers: &[_] =
            if case.body.is_null() { &[] } else { &[("content-type", "application/json")] };
        // A connection that the server closes under a request is no answer.
        let Ok(answer) = client.try_send(case.method, &case.path, headers, body).await else {
            *self.answers.lock().entry((operation.clone(), 0)).or_default() += 1;
            return false;
        };
        *self.answers.lock().entry((operation.clone(), answer.status)).or_default() += 1;
        match answer.status {
            200..=299 => {
                self.writes.fetch_add(1, Ordering::SeqCst);
                let said = if answer.text.is_empty() { Value::Null } else { answer.json() };
                let question = (case.done)(&said);
                // At once, and in the end once more.
                assert!(self.is_true(&question).await, "{operation}: {question}");
                if operation.contains("/sales/") {
                    self.forget_sale(&given.sale()).await;
                } else {
                    self.done.lock().push((operation.clone(), question));
                }
                true
            }
            503 | 504 => {
                answer.problem();
                self.forget_sale(&given.sale()).await;
                false
            }
            other => panic!("{operation}: {other} {}", answer.text),
        }
    }

    async fn is_true(&self, question: &str) -> bool {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {question}"));
        sqlx::query_scalar(sql).fetch_one(&self.look).await.unwrap_or_else(|error| {
            panic!("{question}: {error}");
        })
    }

    async fn forget_sale(&self, name: &str) {
        let sql = "DELETE FROM sales WHERE name = $1";
        sqlx::query(sql).bind(name).execute(&self.look).await.unwrap();
    }

    /// Many clients of both kinds, until so many have hung up, and there were enough answers of success.
    async fn run(self: &Arc<Self>, hang_ups: usize) {
        let mut clients = JoinSet::new();
        for client in 0..RUDE + POLITE {
            let trial = Arc::clone(self);
            clients.spawn(async move {
                let mut at = client;
                while trial.hang_ups.load(Ordering::SeqCst) < hang_ups
                    || trial.writes.load(Ordering::SeqCst) < (hang_ups / 2).min(WRITES)
                {
                    if client < RUDE {
                        trial.hang_up().await;
                    } else {
                        trial.write(at).await;
                        at += 1;
                    }
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    }

    /// Every operation works again.
    pub async fn all_work(&self) {
        for at in 0..self.operations.len() {
            let what = format!("{:?} works", self.operations[at]);
            until(&what, async || self.write(at).await).await;
        }
    }

    /// Everything that was answered as done is there, and no connection is in the middle of anything.
    pub async fn nothing_is_missing(&self) {
        let done = std::mem::take(&mut *self.done.lock());
        let mut missing = Vec::new();
        for (operation, question) in &done {
            if !self.is_true(question).await {
                missing.push((operation, question));
            }
        }
        eprintln!(
            "{} hung up; {} answered writes, of which {} are missing; {:?}",
            self.hang_ups.load(Ordering::SeqCst),
            done.len(),
            missing.len(),
            self.answers.lock()
        );
        assert!(missing.is_empty(), "of {}: {:?}", done.len(), &missing[..missing.len().min(20)]);
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name = 'holdfast' AND state <> 'idle'";
        until("all connections are at rest", async || {
            sqlx::query_scalar::<_, i64>(open).fetch_one(&self.look).await.unwrap() == 0
        })
        .await;
    }
}

fn hang_ups() -> usize {
    usize::try_from(parameter("TEST_HANG_UPS", HANG_UPS as u64)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_is_there_whoever_hangs_up_beside() {
    let trial = Trial::on(&crate::server::database().await, &[]).await;
    trial.run(hang_ups()).await;
    trial.all_work().await;
    trial.nothing_is_missing().await;
}

/// The same while the server does not answer for longer than the requests wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_is_there_though_the_database_was_frozen() {
    let postgres = Postgres::start(PostgresOptions::default()).await.unwrap();
    let database_url = postgres.create_database().await.unwrap();
    let store = Store::connect(&StoreSettings::new(&database_url).unwrap());
    store.migrate().await.unwrap();
    let trial = Trial::on(&database_url, &[("HOLDFAST_REQUEST_TIMEOUT_MS", "1000")]).await;
    let total = hang_ups();
    let freeze = Duration::from_millis(parameter("TEST_FREEZE_MS", FREEZE));
    for stays in [false, true] {
        let given = join_all((0..STOCK).map(|_| Given::make(&trial.look, stays))).await;
        trial.stock[usize::from(stays)].lock().extend(given);
    }
    let freezing = async {
        until("a quarter has hung up", async || trial.hang_ups.load(Ordering::SeqCst) >= total / 4)
            .await;
        trial.frozen.store(true, Ordering::SeqCst);
        postgres.pause().await.unwrap();
        // For longer than the requests wait.
        tokio::time::sleep(freeze).await;
        postgres.resume().await.unwrap();
        trial.frozen.store(false, Ordering::SeqCst);
    };
    tokio::join!(trial.run(total), freezing);
    trial.all_work().await;
    trial.nothing_is_missing().await;
}
