//! A TCP proxy before a server, which counts the round trips that pass through it and can keep back
//! the server's answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// A proxy on a free port of the loopback interface. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    round_trips: Arc<AtomicU64>,
    cut_answers: Arc<AtomicBool>,
    // Held for its drop.
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the proxy")?;
        let address = listener.local_addr()?;
        let round_trips = Arc::new(AtomicU64::new(0));
        let cut_answers = Arc::new(AtomicBool::new(false));
        let (counted, cut) = (Arc::clone(&round_trips), Arc::clone(&cut_answers));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(join(client, upstream, Arc::clone(&counted), Arc::clone(&cut)));
            }
        });
        Ok(Self { address, round_trips, cut_answers, _tasks: tasks })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often so far a client has spoken after the server, or first, summed over all
    /// connections. Messages that a client sends together count once.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::SeqCst)
    }

    /// While this is on, a connection is cut when the server answers on it: the server has done
    /// what it was asked, and the client never hears of it.
    pub fn cut_answers(&self, on: bool) {
        self.cut_answers.store(on, Ordering::SeqCst);
    }
}

async fn join(
    client: TcpStream,
    upstream: SocketAddr,
    round_trips: Arc<AtomicU64>,
    cut_answers: Arc<AtomicBool>,
) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let server_spoke_last = Arc::new(AtomicBool::new(true));
    let turn = Arc::clone(&server_spoke_last);
    // When one side ends, so does the other.
    tokio::select! {
        () = pump(from_client, to_server, move || {
            if turn.swap(false, Ordering::SeqCst) {
                round_trips.fetch_add(1, Ordering::SeqCst);
            }
            true
        }) => {}
        () = pump(from_server, to_client, move || {
            server_spoke_last.store(true, Ordering::SeqCst);
            !cut_answers.load(Ordering::SeqCst)
        }) => {}
    }
}

/// Copies until one side ends, or `pass` says no to what was read.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, pass: impl Fn() -> bool) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !pass() {
            break;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
