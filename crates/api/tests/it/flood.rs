//! Clients that want the memory, the connections or the file handles of the server, and those that want
//! to order meanwhile.
//!
//! `TEST_FLOOD=full` makes it the numbers that `docs/security.md` tells, on the binary in
//! `TEST_FLOOD_BINARY`, which runs in the control group whose folder is in `TEST_FLOOD_CGROUP`.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_sandbox::{Process, ProcessOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    client::Client,
    server::{BINARY, Server, addresses, database},
};

/// The chart's limit of the API's memory.
const MEMORY_LIMIT: u64 = 512 << 20;

/// How large a flood is.
struct Scale {
    full: bool,
    time: Duration,
    heads: usize,
    bodies: usize,
    silent: usize,
    /// How much more memory than before there may be in the middle of it.
    growth: u64,
}

impl Scale {
    fn chosen() -> Self {
        let full = std::env::var("TEST_FLOOD").is_ok_and(|value| value == "full");
        if full {
            let time = Duration::from_secs(30);
            Self { full, time, heads: 10_000, bodies: 2_000, silent: 500, growth: MEMORY_LIMIT }
        } else {
            let time = Duration::from_secs(3);
            // What they send is more than twice of that each time.
            Self { full, time, heads: 600, bodies: 200, silent: 100, growth: 48 << 20 }
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

fn resident(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The pages of memory that the system's TCP sockets have.
fn socket_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

/// The control group that the server runs in, of version 1 or 2.
fn cgroup() -> Option<PathBuf> {
    std::env::var_os("TEST_FLOOD_CGROUP").map(PathBuf::from)
}

/// What the control group has of memory, with that of its sockets, which version 1 counts by itself.
fn group_memory() -> u64 {
    let Some(folder) = cgroup() else { return 0 };
    let files =
        ["memory.current", "memory.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"].into_iter();
    let texts = files.filter_map(|file| fs::read_to_string(folder.join(file)).ok());
    texts.map(|text| text.trim().parse::<u64>().unwrap()).sum()
}

/// How often the control group has killed for want of memory.
fn killed() -> String {
    let Some(folder) = cgroup() else { return "0".to_owned() };
    let files = ["memory.events", "memory.oom_control"].into_iter();
    let text: String =
        files.filter_map(|file| fs::read_to_string(folder.join(file)).ok()).collect();
    let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    killed.unwrap_or_else(|| panic!("no memory controller in {}", folder.display())).to_owned()
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
