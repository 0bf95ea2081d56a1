//! Drops every method of the store at each of its awaits. The next user of its connection must find it clean.
//!
//! A new method of the store without a case here fails `each_method_has_a_case`.

pub mod cases;
pub mod given;

use std::{
    collections::BTreeSet, future::poll_fn, net::SocketAddr, path::Path, pin::pin, task::Poll,
    time::Duration,
};

use holdfast_sandbox::{Proxy, until};
use holdfast_store::{BatchToken, LockMode, Store, StoreSettings};
use sqlx::PgPool;

use self::{
    cases::{MethodCase, cases},
    given::Given,
};
use crate::fixture::{self, database_url, new_product, settings, wanted, write_one_each};

/// Long enough for a dropped call to settle.
const PATIENCE: Duration = Duration::from_secs(30);
/// The delay of each message to or from the server, so that a method waits for each answer.
const DELAY: Duration = Duration::from_millis(1);
/// More awaits than any method has.
const AWAITS_MAX: usize = 500;
/// A store with one connection of each kind through a proxy, and a direct connection.
struct Stage {
    settings: StoreSettings,
    store: Store,
    look: PgPool,
    token: BatchToken,
    _proxy: Proxy,
}

impl Stage {
    async fn open() -> Self {
        let direct = fixture::store().await;
        let url: url::Url = database_url(&direct).await.parse().unwrap();
        let upstream: SocketAddr = url.socket_addrs(|| None).unwrap()[0];
        let proxy = Proxy::start(upstream).await.unwrap();
        proxy.delay(DELAY);
        let mut through = url.clone();
        through.set_port(Some(proxy.address().port())).unwrap();
        let lamp = fixture::product(&direct, 5).await;
        let batch = fixture::lock(&direct, &[lamp.id], LockMode::Wait).await;
        let written = write_one_each(batch, &[lamp.id]).await;
        let token = written.token();
        written.commit().await.unwrap();
        direct.close().await;
        let settings =
            StoreSettings { pool_size: 1, admission_connections: 1, ..settings(through.as_str()) };
        let look = PgPool::connect(url.as_str()).await.unwrap();
        Self { store: Store::connect(&settings), settings, look, token, _proxy: proxy }
    }

    fn new_store(&self) -> Store {
        Store::connect(&self.settings)
    }

    async fn is_true(&self, question: &str) -> bool {
        let sql = format!("SELECT {question}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.look).await.unwrap()
    }

    /// Waits until no session of the store is in a transaction or a statement. There may be one main session, one of
    /// admission, and one that the method opened.
    async fn at_rest(&self, what: &str) {
        until(what, async || {
            let states: Vec<String> = sqlx::query_scalar(
                "SELECT state || ': ' || query FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name LIKE 'holdfast%'",
            )
            .fetch_all(&self.look)
            .await
            .unwrap();
            let rests = states.len() <= 3 && states.iter().all(|state| state.starts_with("idle: "));
            rests.then_some(()).ok_or_else(|| format!("{states:?}"))
        })
        .await;
    }

    /// Each connection answers.
    async fn writes_are_kept(&self, store: &Store, what: &str) {
        let made = store.create_product(&new_product(9)).await.unwrap();
        let batch = store.lock_batch(&wanted(&[made.id]), LockMode::Wait).await.unwrap();
        let ids = write_one_each(batch, &[made.id]).await.commit().await.unwrap();
        let kept = format!(
            "EXISTS (SELECT FROM products WHERE id = {} AND stock = 8) \
             AND EXISTS (SELECT FROM orders WHERE id = {})",
            made.id, ids[0]
        );
        assert!(self.is_true(&kept).await, "{what}: an answered write is not there");
    }
}

/// Polls a future at most this many times, then drops it: at once, or when its answer has arrived.
async fn polled<T>(future: impl Future<Output = T>, times: usize, late: bool) -> Option<T> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if polls == times && !late => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Drops the method at its first await, then at its second, and so on until it completes.
async fn drop_everywhere(stage: &Stage, case: &MethodCase, warm: bool) {
    for late in [false, true] {
        for times in 1.. {
            assert!(times < AWAITS_MAX, "{} never ends", case.method);
            let what = format!("{}, polled {times} times, late: {late}", case.method);
            // A closed connection cannot be used by others.
            let closes = case.method == "Store::close";
            let store = if warm && !closes { stage.store.clone() } else { stage.new_store() };
            if warm {
                store.ping().await.unwrap();
                let nothing = store.lock_batch(&wanted(&[]), LockMode::Wait).await.unwrap();
                nothing.release().await.unwrap();
            }
            let given = Given::make(&stage.look, &store, &stage.token).await;
            let done = polled((case.call)(given), times, late).await;
            if !closes {
                stage.writes_are_kept(&store, &what).await;
            }
            if !warm {
                store.close().await;
            }
            drop(store);
            stage.at_rest(&what).await;
            if let Some(done) = done {
                if let Some(question) = done {
                    assert!(stage.is_true(&question).await, "{what}: {question}");
                }
                break;
            }
        }
    }
}

/// Four stages run concurrently, because most of the time is spent on messages to and from the server.
#[tokio::test]
async fn a_method_that_is_dropped_at_any_await_leaves_its_connection_clean() {
    let deal = async |part: usize| {
        let stage = Stage::open().await;
        for case in cases().iter().skip(part).step_by(4) {
            drop_everywhere(&stage, case, true).await;
        }
    };
    tokio::join!(deal(0), deal(1), deal(2), deal(3));
}

#[tokio::test]
async fn a_method_that_is_dropped_while_it_connects_leaves_no_connection() {
    let stage = Stage::open().await;
    let connecting = ["Store::create_product", "Store::lock_product", "Store::lock_batch"];
    for case in cases().iter().filter(|case| connecting.contains(&case.method)) {
        drop_everywhere(&stage, case, false).await;
    }
}

#[test]
fn each_method_has_a_case() {
    let mut methods = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut methods);
    let cases: BTreeSet<_> = cases().iter().map(|case| case.method.to_owned()).collect();
    assert_eq!(methods, cases);
}

/// The public async methods of the public types, from the sources.
fn collect(folder: &Path, methods: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // Methods that only the crate can call.
        if matches!(name, "connections" | "calls") {
            continue;
        }
        if path.is_dir() {
            collect(&path, methods);
            continue;
        }
        let mut of = String::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let word = |text: &str| -> String {
                text.chars()
                    .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                    .collect()
            };
            if let Some(rest) = line.strip_prefix("impl ") {
                of = word(rest.rsplit(" for ").next().unwrap());
            } else if let Some(rest) = line.trim_start().strip_prefix("pub async fn ") {
                methods.insert(format!("{of}::{}", word(rest)));
            }
        }
    }
}
