//! A flood of clients, and the latency of orders and the memory of the server during it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_sandbox::{PATIENCE, Process, ProcessOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use serde_json::json;
use tokio::task::JoinSet;

use super::memory::{cgroup, group_memory, killed, resident, socket_memory};
use crate::{
    client::Client,
    server::{BINARY, Server, addresses, database},
};

/// The memory limit of the API in the chart.
const MEMORY_LIMIT: u64 = 1024 << 20;

/// The size of a flood.
pub struct Scale {
    full: bool,
    pub time: Duration,
    pub heads: usize,
    pub bodies: usize,
    pub complete: usize,
    pub silent: usize,
    /// The allowed growth of memory during the flood.
    growth: u64,
}

impl Scale {
    pub fn chosen() -> Self {
        let full = std::env::var("TEST_FLOOD").is_ok_and(|value| value == "full");
        if full {
            let time = Duration::from_secs(30);
            Self {
                full,
                time,
                heads: 10_000,
                bodies: 2_000,
                complete: 10_000,
                silent: 500,
                growth: MEMORY_LIMIT,
            }
        } else {
            let time = Duration::from_secs(3);
            // Each sends more than twice as much.
            Self {
                full,
                time,
                heads: 600,
                bodies: 200,
                complete: 1_500,
                silent: 100,
                growth: 48 << 20,
            }
        }
    }

    /// Small budgets for small floods, and the defaults for large ones.
    pub fn settings(&self) -> Vec<(&'static str, &'static str)> {
        let small = [
            ("HOLDFAST_REQUEST_BUFFER_BYTES", "2097152"),
            ("HOLDFAST_ANSWER_BUFFER_BYTES", "8388608"),
        ];
        if self.full { Vec::new() } else { small.to_vec() }
    }
}

pub async fn start(settings: &[(&str, &str)], files: Option<usize>) -> Server {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let database_url = database().await;
    let binary = std::env::var("TEST_FLOOD_BINARY").unwrap_or_else(|_| BINARY.to_owned());
    let files = files.map(|files| format!("ulimit -n {files};"));
    let group = cgroup().map(|folder| format!("echo $$ > {}/cgroup.procs;", folder.display()));
    let limit = files.into_iter().chain(group).collect::<String>();
    let mut options = ProcessOptions::new("/bin/sh")
        .arg("-c")
        .arg(format!("{limit} exec \"$0\" serve"))
        .arg(binary)
        .env("HOLDFAST_HTTP_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_AUTH", "off")
        .env("DATABASE_URL", &database_url)
        .env("REDIS_URL", redis.url());
    for (name, value) in settings {
        options = options.env(*name, *value);
    }
    let process = Process::start(options).await.unwrap();
    let [api, internal, admin] = addresses(&process).await;
    let server = Server {
        process,
        api: Client::new(&api),
        internal: Client::new(&internal),
        admin: Client::new(&admin),
        store: Store::connect(&StoreSettings::new(&database_url).unwrap()),
        database_url,
        redis,
    };
    server.until("it is ready", async || server.internal.get("/readyz").await.status == 200).await;
    server
}

/// The measurements during a flood.
#[derive(Debug, Default)]
pub struct Seen {
    before: u64,
    most: u64,
    after: u64,
    socket_memory: u64,
    group: [u64; 3],
    rounds: usize,
    accepted: usize,
    failures: Vec<String>,
    slowest: Duration,
}

/// A new client each time, like another customer. Returns whether the order was accepted; on a busy machine, it may be
/// refused as overload.
async fn order(server: &Server, product: i64) -> Result<bool, String> {
    let order = json!({ "product_id": product, "quantity": 1 }).to_string();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{order}",
        order.len()
    );
    let answer = server.api.raw(request.as_bytes(), Duration::from_secs(10)).await;
    match answer.statuses()[..] {
        [201] => Ok(true),
        [503] if answer.text.contains("/problems/overloaded") => Ok(false),
        _ => Err(answer.text),
    }
}

async fn is_alive(client: &Client) -> Result<(), String> {
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = client.raw(request, Duration::from_secs(10)).await;
    if answer.statuses() == [200] { Ok(()) } else { Err(format!("livez: {}", answer.text)) }
}

/// Lets this many clients attack repeatedly for a while, and places orders in the meantime.
pub async fn flood<F>(
    server: &Server,
    name: &str,
    (clients, time): (usize, Duration),
    client: impl Fn(String, Arc<AtomicUsize>) -> F,
) -> Seen
where
    F: Future<Output = ()> + Send + 'static,
{
    let product = server.product(1_000_000).await;
    for _ in 0..50 {
        assert!(order(server, product).await.unwrap());
        for path in ["/products?limit=1000", "/docs/swagger-ui-bundle.js"] {
            assert_eq!(server.api.get(path).await.status, 200);
        }
    }
    let mut seen = Seen { before: resident(&server.process), ..Seen::default() };
    seen.group[0] = group_memory();
    let (sockets, killed_before) = (socket_memory(), killed());
    // On their own threads, so that the clients that order wait only for the server.
    let flooders =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut flooding = JoinSet::new();
    let sent = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..clients {
        let (once, over) =
            (client(server.api.address.clone(), Arc::clone(&sent)), Arc::clone(&over));
        let once = async move {
            if !over.load(Ordering::Relaxed) {
                once.await;
            }
        };
        flooding.spawn_on(once, flooders.handle());
    }
    let begun = Instant::now();
    while begun.elapsed() < time || (seen.accepted == 0 && begun.elapsed() < PATIENCE) {
        // A client whose connection was closed connects again.
        while flooding.try_join_next().is_some() {
            let again = client(server.api.address.clone(), Arc::clone(&sent));
            flooding.spawn_on(again, flooders.handle());
        }
        let asked = Instant::now();
        let ordered = order(server, product).await;
        seen.accepted += usize::from(ordered == Ok(true));
        for outcome in
            [ordered.map(drop), is_alive(&server.api).await, is_alive(&server.internal).await]
        {
            seen.failures
                .extend(outcome.err().map(|text| format!("after {:?}: {text:?}", begun.elapsed())));
        }
        seen.rounds += 1;
        seen.slowest = seen.slowest.max(asked.elapsed());
        seen.most = seen.most.max(resident(&server.process));
        seen.socket_memory = seen.socket_memory.max(socket_memory().saturating_sub(sockets));
        seen.group[1] = seen.group[1].max(group_memory());
        // The flood is the subject, not the orders.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::Relaxed);
    flooding.shutdown().await;
    flooders.shutdown_background();
    // Memory returns to the earlier level within ten seconds.
    let ended = Instant::now();
    loop {
        seen.after = resident(&server.process);
        if seen.after * 10 <= seen.before * 12 || ended.elapsed() > Duration::from_secs(10) {
            break;
        }
        // This time is reported.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    seen.group[2] = group_memory();
    assert_eq!(killed(), killed_before, "killed for want of memory");
    let mib = |bytes: u64| bytes >> 20;
    eprintln!(
        "{name}: {clients} clients, {} MiB sent; resident {} MiB before, {} MiB at most, {} MiB {:.1} s after; \
         sockets {} MiB; control group {:?} MiB; {} rounds of an order and two probes, {} orders accepted, slowest {:?}, {} failures",
        mib(sent.load(Ordering::Relaxed) as u64),
        mib(seen.before),
        mib(seen.most),
        mib(seen.after),
        ended.elapsed().as_secs_f64(),
        mib(seen.socket_memory),
        seen.group.map(mib),
        seen.rounds,
        seen.accepted,
        seen.slowest,
        seen.failures.len(),
    );
    seen
}

impl Seen {
    pub fn check(&self, scale: &Scale) {
        assert!(self.failures.is_empty(), "{:?}", &self.failures[..self.failures.len().min(5)]);
        assert!(self.accepted > 0, "{self:?}");
        assert!(self.most <= MEMORY_LIMIT, "{self:?}");
        assert!(self.most.saturating_sub(self.before) <= scale.growth, "{self:?}");
        assert!(self.after * 10 <= self.before * 12, "{self:?}");
    }
}
