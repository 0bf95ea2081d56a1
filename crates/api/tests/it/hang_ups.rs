//! Clients that disconnect at any moment of any writing request, together with others that wait for their answers.
//! Every write that was answered with success must exist.
//!
//! The variables `TEST_HANG_UPS` and `TEST_FREEZE_MS` change the size.

mod cases;

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
use serde_json::Value;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

use crate::server::Server;
use cases::writing_operations;
pub use cases::{WriteTarget, write_case};

const HANG_UPS: usize = 600;
const FREEZE: u64 = 3000;
/// The number of successful answers that is enough.
const WRITES: usize = 2000;
/// The number of requests of each kind of client while the database is frozen.
const STOCK: usize = 200;
/// The test's own requests may take as long as the database is frozen.
const LOOK_LIMIT: Duration = Duration::from_mins(3);
/// The numbers of clients that hang up, and of clients that wait.
const RUDE: usize = 16;
const POLITE: usize = 16;

fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// A server, and the answers of its operations.
pub struct Trial {
    pub server: Server,
    pub look: PgPool,
    pub operations: Vec<(String, bool)>,
    hang_ups: AtomicUsize,
    writes: AtomicUsize,
    /// Created before the database is frozen, for use while it is frozen.
    stock: [parking_lot::Mutex<Vec<WriteTarget>>; 2],
    frozen: AtomicBool,
    /// By operation: the number of successful and of other answers.
    answers: parking_lot::Mutex<BTreeMap<(String, u16), usize>>,
    /// What must be true in the database.
    done: parking_lot::Mutex<Vec<(String, String)>>,
}

impl Trial {
    pub async fn on(database_url: &str, settings: &[(&str, &str)]) -> Arc<Self> {
        Self::watched(database_url, database_url, settings).await
    }

    /// `direct` is a way to the database for the test itself.
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

    pub async fn given(&self, stays: bool) -> WriteTarget {
        let stocked =
            self.frozen.load(Ordering::SeqCst).then(|| self.stock[usize::from(stays)].lock().pop());
        match stocked.flatten() {
            Some(given) => given,
            None => WriteTarget::make(&self.look, stays).await,
        }
    }

    /// Sends a request, and disconnects at some moment, possibly before it is complete.
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
        // The server may refuse connections beyond its maximum.
        let Ok(mut stream) = TcpStream::connect(&client.address).await else { return };
        let _ = stream.set_nodelay(true);
        let end = if part == 0 { request.len() / 2 } else { request.len() };
        let _ = stream.write_all(&request.as_bytes()[..end]).await;
        // At any moment of the request.
        tokio::time::sleep(wait).await;
        drop(stream);
        self.hang_ups.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends a request, waits for its answer, and records it. Returns whether it was a success.
    pub async fn write(&self, at: usize) -> bool {
        let (operation, is_admin) = &self.operations[at % self.operations.len()];
        let given = self.given(true).await;
        let case = write_case(operation, &given).unwrap();
        let client = if *is_admin { &self.server.admin } else { &self.server.api };
        let body = if case.body.is_null() { String::new() } else { case.body.to_string() };
        let headers: &[_] =
            if case.body.is_null() { &[] } else { &[("content-type", "application/json")] };
        // A connection that the server closes during a request is not an answer.
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
                // Checked at once, and again at the end.
                assert!(self.is_true(&question).await, "{operation}: {question}");
                if operation.contains("/sales/") {
                    self.forget_sale(&given.sale()).await;
                } else {
                    self.done.lock().push((operation.clone(), question));
                }
                true
            }
            // 408: the server closed the connection to make room for another one.
            408 | 503 | 504 => {
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

    /// Runs many clients of both kinds until enough of them have hung up, and there were enough successful answers.
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

    /// Every change that was answered with success exists, and no connection is in a transaction.
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
        until("all connections are idle", async || {
            sqlx::query_scalar::<_, i64>(open).fetch_one(&self.look).await.unwrap() == 0
        })
        .await;
    }
}

fn hang_ups() -> usize {
    usize::try_from(parameter("TEST_HANG_UPS", HANG_UPS as u64)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answered_writes_are_kept_when_other_clients_hang_up() {
    let trial = Trial::on(&crate::server::database().await, &[]).await;
    trial.run(hang_ups()).await;
    trial.all_work().await;
    trial.nothing_is_missing().await;
}

/// The same while the server does not answer for longer than the requests wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answered_writes_are_kept_when_the_database_freezes() {
    let postgres = Postgres::start(PostgresOptions::default()).await.unwrap();
    let database_url = postgres.create_database().await.unwrap();
    let store = Store::connect(&StoreSettings::new(&database_url).unwrap());
    store.migrate().await.unwrap();
    let trial = Trial::on(&database_url, &[("HOLDFAST_REQUEST_TIMEOUT_MS", "1000")]).await;
    let total = hang_ups();
    let freeze = Duration::from_millis(parameter("TEST_FREEZE_MS", FREEZE));
    for stays in [false, true] {
        let given = join_all((0..STOCK).map(|_| WriteTarget::make(&trial.look, stays))).await;
        trial.stock[usize::from(stays)].lock().extend(given);
    }
    let freezing = async {
        until("a quarter has hung up", async || trial.hang_ups.load(Ordering::SeqCst) >= total / 4)
            .await;
        trial.frozen.store(true, Ordering::SeqCst);
        postgres.pause().await.unwrap();
        // Longer than the requests wait.
        tokio::time::sleep(freeze).await;
        postgres.resume().await.unwrap();
        trial.frozen.store(false, Ordering::SeqCst);
    };
    tokio::join!(trial.run(total), freezing);
    trial.all_work().await;
    trial.nothing_is_missing().await;
}
