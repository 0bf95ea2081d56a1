//! Clients that want the memory, the connections or the file handles of the server, and those that want
//! to order meanwhile.
//!
//! `TEST_FLOOD=full` makes it the numbers that `docs/security.md` tells, on the binary in
//! `TEST_FLOOD_BINARY`, which runs in the control group whose folder is in `TEST_FLOOD_CGROUP`.

mod memory;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_sandbox::{Process, ProcessOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use memory::{cgroup, group_memory, killed, resident, socket_memory};

use crate::{
    client::Client,
    server::{BINARY, Server, addresses, database},
};

/// The chart's limit of the API's memory.
const MEMORY_LIMIT: u64 = 1024 << 20;

/// How large a flood is.
struct Scale {
    full: bool,
    time: Duration,
    heads: usize,
    bodies: usize,
    complete: usize,
    silent: usize,
    /// How much more memory than before there may be in the middle of it.
    growth: u64,
}

impl Scale {
    fn chosen() -> Self {
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
            // What they send is more than twice of that each time.
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

    /// Small budgets for small floods; what is shipped for large ones.
    fn settings(&self) -> Vec<(&'static str, &'static str)> {
        let small = [
            ("HOLDFAST_REQUEST_BUFFER_BYTES", "2097152"),
            ("HOLDFAST_ANSWER_BUFFER_BYTES", "8388608"),
        ];
        if self.full { Vec::new() } else { small.to_vec() }
    }
}

async fn start(settings: &[(&str, &str)], files: Option<usize>) -> Server {
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

/// What was seen during a flood.
#[derive(Debug, Default)]
struct Seen {
    before: u64,
    most: u64,
    after: u64,
    socket_memory: u64,
    group: [u64; 3],
    orders: usize,
    failures: Vec<String>,
    slowest: Duration,
}

/// A new client each time, as from another customer.
async fn order(server: &Server, product: i64) -> Result<(), String> {
    let order = json!({ "product_id": product, "quantity": 1 }).to_string();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{order}",
        order.len()
    );
    let answer = server.api.raw(request.as_bytes(), Duration::from_secs(10)).await;
    if answer.statuses() == [201] { Ok(()) } else { Err(answer.text) }
}

async fn is_alive(client: &Client) -> Result<(), String> {
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = client.raw(request, Duration::from_secs(10)).await;
    if answer.statuses() == [200] { Ok(()) } else { Err(format!("livez: {}", answer.text)) }
}

/// Lets so many clients do their worst for a while, each again and again, and orders meanwhile.
async fn flood<F>(
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
        order(server, product).await.unwrap();
        for path in ["/products?limit=1000", "/docs/swagger-ui-bundle.js"] {
            assert_eq!(server.api.get(path).await.status, 200);
        }
    }
    let mut seen = Seen { before: resident(&server.process), ..Seen::default() };
    seen.group[0] = group_memory();
    let (sockets, killed_before) = (socket_memory(), killed());
    // Of their own, so that those who order wait for the server alone.
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
    while begun.elapsed() < time {
        // A client whose connection was closed connects again.
        while flooding.try_join_next().is_some() {
            let again = client(server.api.address.clone(), Arc::clone(&sent));
            flooding.spawn_on(again, flooders.handle());
        }
        let asked = Instant::now();
        for outcome in [
            order(server, product).await,
            is_alive(&server.api).await,
            is_alive(&server.internal).await,
        ] {
            seen.failures
                .extend(outcome.err().map(|text| format!("after {:?}: {text:?}", begun.elapsed())));
        }
        seen.orders += 1;
        seen.slowest = seen.slowest.max(asked.elapsed());
        seen.most = seen.most.max(resident(&server.process));
        seen.socket_memory = seen.socket_memory.max(socket_memory().saturating_sub(sockets));
        seen.group[1] = seen.group[1].max(group_memory());
        // The flood is the subject, not the orders beside it.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::Relaxed);
    flooding.shutdown().await;
    flooders.shutdown_background();
    // Memory goes back within ten seconds.
    let ended = Instant::now();
    loop {
        seen.after = resident(&server.process);
        if seen.after * 10 <= seen.before * 12 || ended.elapsed() > Duration::from_secs(10) {
            break;
        }
        // How long that takes is what is reported.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    seen.group[2] = group_memory();
    assert_eq!(killed(), killed_before, "killed for want of memory");
    let mib = |bytes: u64| bytes >> 20;
    eprintln!(
        "{name}: {clients} clients, {} MiB sent; resident {} MiB before, {} MiB at most, {} MiB {:.1} s after; \
         sockets {} MiB; control group {:?} MiB; {} rounds of an order and two probes, slowest {:?}, {} failures",
        mib(sent.load(Ordering::Relaxed) as u64),
        mib(seen.before),
        mib(seen.most),
        mib(seen.after),
        ended.elapsed().as_secs_f64(),
        mib(seen.socket_memory),
        seen.group.map(mib),
        seen.orders,
        seen.slowest,
        seen.failures.len(),
    );
    seen
}

impl Seen {
    fn check(&self, scale: &Scale) {
        assert!(self.failures.is_empty(), "{:?}", &self.failures[..self.failures.len().min(5)]);
        assert!(self.most <= MEMORY_LIMIT, "{self:?}");
        assert!(self.most.saturating_sub(self.before) <= scale.growth, "{self:?}");
        assert!(self.after * 10 <= self.before * 12, "{self:?}");
    }
}

/// Sends as much as is taken, and stays until it is closed.
async fn send_and_stay(address: String, bytes: Arc<[u8]>, sent: Arc<AtomicUsize>, drip: u8) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    for part in bytes.chunks(16 * 1024) {
        if stream.write_all(part).await.is_err() {
            return;
        }
        sent.fetch_add(part.len(), Ordering::Relaxed);
    }
    while stream.write_all(&[drip]).await.is_ok() {
        let mut answer = [0; 1024];
        let second = Duration::from_secs(1);
        if let Ok(Ok(_)) = tokio::time::timeout(second, stream.read(&mut answer)).await {
            return;
        }
    }
}

async fn unfinished_heads(bytes: usize, name: &str) {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let head = format!("GET /orders HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(bytes));
    let head: Arc<[u8]> = head.into_bytes().into();
    let seen = flood(&server, name, (scale.heads, scale.time), |address, sent| {
        send_and_stay(address, Arc::clone(&head), sent, b'x')
    });
    seen.await.check(&scale);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_heads_over_the_limit_cost_little_and_block_no_others() {
    unfinished_heads(64 * 1024, "unfinished heads of 64 KiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_heads_of_the_largest_size_cost_little_and_block_no_others() {
    unfinished_heads(16_000, "unfinished heads of 16 KiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_stay_within_their_budget_and_block_no_others() {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 1048576\r\n\r\n{{\"metadata\":\"{}",
        "x".repeat(1_040_000)
    );
    let request: Arc<[u8]> = request.into_bytes().into();
    let seen =
        flood(&server, "slow bodies of 1 MiB", (scale.bodies, scale.time), |address, sent| {
            send_and_stay(address, Arc::clone(&request), sent, b'x')
        });
    seen.await.check(&scale);
}

/// Locks the row of a product until it is dropped.
async fn lock(server: &Server, product: i64) -> Transaction<'static, Postgres> {
    let database = PgPool::connect(&server.database_url).await.unwrap();
    let mut lock = database.begin().await.unwrap();
    let row = sqlx::query("SELECT FROM products WHERE id = $1 FOR UPDATE").bind(product);
    row.execute(&mut *lock).await.unwrap();
    lock
}

/// Sends requests one after another, each after the answer to the one before.
async fn ask_again_and_again(address: String, request: Arc<[u8]>, sent: Arc<AtomicUsize>) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let mut answer = vec![0; 64 * 1024];
    while stream.write_all(&request).await.is_ok() {
        sent.fetch_add(request.len(), Ordering::Relaxed);
        if !matches!(stream.read(&mut answer).await, Ok(1..)) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_requests_that_wait_stay_within_their_budget_and_block_no_others() {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let locked = server.product(1_000_000).await;
    let lock = lock(&server, locked).await;
    let order =
        json!({ "product_id": locked, "quantity": 1, "metadata": { "a": "x".repeat(4000) } });
    let body = format!("{:8000}", order.to_string());
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{}\r\n",
        body.len(),
        format!("x: {}\r\n", "x".repeat(165)).repeat(90)
    );
    let request: Arc<[u8]> = format!("{head}{body}").into_bytes().into();
    let name = "complete requests with heads of 16 KiB and bodies of 8 KiB";
    let seen = flood(&server, name, (scale.complete, scale.time), |address, sent| {
        ask_again_and_again(address, Arc::clone(&request), sent)
    });
    seen.await.check(&scale);
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_more_than_is_read_costs_little_memory_of_the_kernel() {
    let server = start(&[], None).await;
    let locked = server.product(1).await;
    let lock = lock(&server, locked).await;
    let order = json!({ "product_id": locked, "quantity": 1 }).to_string();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{order}",
        order.len()
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    let stream = socket.connect(server.api.address.parse().unwrap()).await.unwrap();
    let mut sent = 0;
    // Until the server takes no more for a while.
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), stream.writable()).await
    {
        match stream.try_write(request.as_bytes()) {
            Ok(bytes) => sent += bytes,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    // Of these, 16 KiB are read, and a few wait on the client's side.
    assert!(sent < 64 * 1024, "{sent}");
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_stay_within_their_budget_and_block_no_others() {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let name = "n".repeat(200);
    for _ in 0..1000 {
        let product = json!({ "name": name, "price": 1, "stock": 1 });
        assert_eq!(server.api.post("/products", &product).await.status, 201);
    }
    let requests = "GET /products?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n\
                    GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n"
        .repeat(50);
    let requests: Arc<[u8]> = requests.into_bytes().into();
    let seen =
        flood(&server, "clients that never read", (scale.silent, scale.time), |address, sent| {
            let requests = Arc::clone(&requests);
            async move {
                let Ok(mut stream) = TcpStream::connect(address).await else { return };
                if stream.write_all(&requests).await.is_ok() {
                    sent.fetch_add(requests.len(), Ordering::Relaxed);
                    // Until it is reset.
                    let _ = stream.ready(tokio::io::Interest::ERROR).await;
                }
            }
        });
    seen.await.check(&scale);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_connections_leave_file_handles_for_everything_else() {
    let scale = Scale::chosen();
    let files = 400;
    let server = start(&scale.settings(), Some(files)).await;
    let log = server.process.log().unwrap();
    let lowered = log.lines().find(|line| line.contains("ulimit -n")).expect(&log);
    assert!(lowered.contains("\"HOLDFAST_MAX_CONNECTIONS\":10000"), "{lowered}");
    assert!(lowered.contains(&format!("\"open_files\":{files}")), "{lowered}");
    let idle: Arc<[u8]> = Vec::new().into();
    let name = "connections beyond the limit of open files";
    let seen = flood(&server, name, (2 * files, scale.time), |address, sent| {
        send_and_stay(address, Arc::clone(&idle), sent, b'\n')
    });
    seen.await.check(&scale);
    assert!(!server.process.log().unwrap().contains("cannot be accepted"));
}

#[tokio::test]
async fn too_few_file_handles_prevent_the_start_with_an_error() {
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "ulimit -n 200; exec \"$0\" serve", BINARY])
        .env("DATABASE_URL", "postgres://u@127.0.0.1:1/db")
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_HTTP_ADDR", "127.0.0.1:0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let sentence = text.lines().last().unwrap_or_default();
    assert!(!output.status.success(), "{text}");
    assert!(
        sentence.contains("HOLDFAST_MAX_CONNECTIONS is 10000") && sentence.contains("is 200"),
        "{text}"
    );
}
