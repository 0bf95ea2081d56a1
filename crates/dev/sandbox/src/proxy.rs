//! A TCP proxy in front of a server. It counts round trips and can disturb connections: cut them, half-close them, hold
//! back answers, delay everything, or block all traffic.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// A proxy on a free port of the loopback interface. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    // Held for its drop.
    _tasks: JoinSet<()>,
}

/// The faults of all connections.
#[derive(Debug)]
struct Rules {
    /// The server of new connections.
    upstream: Mutex<SocketAddr>,
    round_trips: AtomicU64,
    cut_answers: AtomicBool,
    /// While it is `true`, no data passes in either direction.
    blackhole: watch::Sender<bool>,
    /// When this number changes, all open connections are closed.
    cuts: watch::Sender<u64>,
    /// The same, except that the direction to the server stays open.
    half_closes: watch::Sender<u64>,
    /// The delay before each message in either direction, in milliseconds.
    delay: AtomicU64,
    /// When a client sends these bytes, its connection no longer receives anything.
    deaf_after: Mutex<Option<Vec<u8>>>,
    deaf: AtomicU64,
}

impl Proxy {
    /// Starts a proxy in front of the server at `upstream`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the proxy")?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules {
            upstream: Mutex::new(upstream),
            round_trips: AtomicU64::new(0),
            cut_answers: AtomicBool::new(false),
            blackhole: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            half_closes: watch::Sender::new(0),
            delay: AtomicU64::new(0),
            deaf_after: Mutex::new(None),
            deaf: AtomicU64::new(0),
        });
        let shared = Arc::clone(&rules);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(join(client, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, rules, _tasks: tasks })
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often a client has sent data first or after the server had answered, over all connections. Messages that are
    /// sent together count once.
    pub fn round_trips(&self) -> u64 {
        self.rules.round_trips.load(Ordering::SeqCst)
    }

    /// While this is on, a connection is cut when the server answers: the server has done what was requested, and the
    /// client never gets the answer.
    pub fn cut_answers(&self, on: bool) {
        self.rules.cut_answers.store(on, Ordering::SeqCst);
    }

    /// While this is on, connections are accepted but no data passes in either direction. Data that was sent in the
    /// meantime passes afterwards.
    pub fn blackhole(&self, on: bool) {
        self.rules.blackhole.send_replace(on);
    }

    /// Sends new connections to this server.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.rules.upstream.lock() = upstream;
    }

    /// Cuts all open connections. New ones can be opened.
    pub fn cut(&self) {
        self.rules.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Closes all open connections towards the clients. What clients send still reaches the server; its answers are
    /// lost. New connections can be opened.
    pub fn half_close(&self) {
        self.rules.half_closes.send_modify(|half_closes| *half_closes += 1);
    }

    /// Delays each message in either direction; messages of one connection one after the other. Zero turns this off.
    pub fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.rules.delay.store(millis, Ordering::SeqCst);
    }

    /// When a client sends these bytes (within one read), its connection no longer receives anything, while the server
    /// still does what was requested. `None` ends this for further connections.
    pub fn deaf_after(&self, words: Option<&[u8]>) {
        *self.rules.deaf_after.lock() = words.map(<[u8]>::to_vec);
    }

    /// The number of connections to which this has happened.
    pub fn deaf(&self) -> u64 {
        self.rules.deaf.load(Ordering::SeqCst)
    }
}

async fn join(client: TcpStream, rules: Arc<Rules>) {
    let (mut cuts, mut half_closes) = (rules.cuts.subscribe(), rules.half_closes.subscribe());
    let upstream = *rules.upstream.lock();
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let server_spoke_last = AtomicBool::new(true);
    let deaf = AtomicBool::new(false);
    let from_client = pump(from_client, to_server, &rules, std::future::pending(), |said| {
        if server_spoke_last.swap(false, Ordering::SeqCst) {
            rules.round_trips.fetch_add(1, Ordering::SeqCst);
        }
        let words = rules.deaf_after.lock().clone();
        if words.is_some_and(|words| said.windows(words.len()).any(|part| part == words))
            && !deaf.swap(true, Ordering::SeqCst)
        {
            rules.deaf.fetch_add(1, Ordering::SeqCst);
        }
        Pass::On
    });
    let closed = async {
        // Without a proxy, nobody can change it.
        if half_closes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let from_server = pump(from_server, to_client, &rules, closed, |_| {
        server_spoke_last.store(true, Ordering::SeqCst);
        if deaf.load(Ordering::SeqCst) {
            Pass::Never
        } else if rules.cut_answers.load(Ordering::SeqCst) {
            Pass::Cut
        } else {
            Pass::On
        }
    });
    // If one side ends, the other is closed, too. A cut takes precedence: data that was held back must not pass
    // afterwards.
    tokio::select! {
        biased;
        _ = cuts.changed() => {}
        () = from_client => {}
        () = from_server => {}
    }
}

/// What to do with data that was read.
enum Pass {
    On,
    Cut,
    Never,
}

/// Copies data until one side ends or `pass` cuts the connection. Reports the end of the data from `closed` on.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    rules: &Rules,
    closed: impl Future<Output = ()>,
    pass: impl Fn(&[u8]) -> Pass,
) {
    let mut blackhole = rules.blackhole.subscribe();
    let mut closed = pin!(closed);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = &mut closed => {
                let _ = to.shutdown().await;
                while matches!(from.read(&mut buffer).await, Ok(1..)) {}
                break;
            }
            read = from.read(&mut buffer) => read,
        };
        let Ok(read @ 1..) = read else { break };
        if blackhole.wait_for(|on| !on).await.is_err() {
            break;
        }
        match rules.delay.load(Ordering::SeqCst) {
            0 => {}
            millis => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
        match pass(&buffer[..read]) {
            Pass::On => {}
            Pass::Cut => break,
            Pass::Never => std::future::pending().await,
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
