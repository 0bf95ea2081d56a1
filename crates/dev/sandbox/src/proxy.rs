//! A TCP proxy before a server, which counts the round trips that pass through it and can hurt the
//! connections: cut them or half of them, keep back answers, delay all, or let nothing through.

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

/// What is done to the connections, all of them.
#[derive(Debug)]
struct Rules {
    /// Where new connections lead.
    upstream: Mutex<SocketAddr>,
    round_trips: AtomicU64,
    cut_answers: AtomicBool,
    /// Nothing passes in either direction while it is `true`.
    blackhole: watch::Sender<bool>,
    /// Every connection that was made before the last change of this number ends.
    cuts: watch::Sender<u64>,
    /// The same, but for the direction towards the server.
    half_closes: watch::Sender<u64>,
    /// Before each message, in either direction; in milliseconds.
    delay: AtomicU64,
    /// A connection on which a client says this hears nothing any more.
    deaf_after: Mutex<Option<Vec<u8>>>,
    deaf: AtomicU64,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No port can be had.
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

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often so far a client has spoken after the server, or first, summed over all
    /// connections. Messages that a client sends together count once.
    pub fn round_trips(&self) -> u64 {
        self.rules.round_trips.load(Ordering::SeqCst)
    }

    /// While this is on, a connection is cut when the server answers on it: the server has done
    /// what it was asked, and the client never hears of it.
    pub fn cut_answers(&self, on: bool) {
        self.rules.cut_answers.store(on, Ordering::SeqCst);
    }

    /// While this is on, connections are accepted and nothing passes, in either direction; what was
    /// said in the meantime passes afterwards.
    pub fn blackhole(&self, on: bool) {
        self.rules.blackhole.send_replace(on);
    }

    /// New connections lead to this server from now on.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.rules.upstream.lock() = upstream;
    }

    /// Ends all connections that there are; new ones are made as ever.
    pub fn cut(&self) {
        self.rules.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Tells the clients of all connections that there are that the server says nothing more; what they say
    /// still reaches it, and what it answers is lost. New connections are made as ever.
    pub fn half_close(&self) {
        self.rules.half_closes.send_modify(|half_closes| *half_closes += 1);
    }

    /// From now on, each message waits that long before it passes, in either direction; those of one
    /// connection one after the other. Zero: no longer.
    pub fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.rules.delay.store(millis, Ordering::SeqCst);
    }

    /// From now on, a connection on which a client sends these bytes (within one read) hears
    /// nothing of the server any more, which does what it is told. `None`: no further connection.
    pub fn deaf_after(&self, words: Option<&[u8]>) {
        *self.rules.deaf_after.lock() = words.map(<[u8]>::to_vec);
    }

    /// Connections that [`Self::deaf_after`] has struck so far.
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
        // Without a proxy there is nobody who could.
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
    // When one side ends, so does the other. A cut comes first: what a black hole has kept back must not
    // pass after it.
    tokio::select! {
        biased;
        _ = cuts.changed() => {}
        () = from_client => {}
        () = from_server => {}
    }
}

/// What becomes of something that was read.
enum Pass {
    On,
    Cut,
    Never,
}

/// Copies until one side ends, or `pass` cuts it off. From `closed` on, it says that nothing more will come.
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
