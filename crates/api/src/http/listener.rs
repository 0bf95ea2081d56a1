//! Accepting connections: how many, and what happens when there are too many.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    Client, ClientAddresses, HttpMetrics, Service,
    connection::{Connecting, Patience, turn_away},
    open_connections::OpenConnections,
};
use crate::{byte_budget::ByteBudget, problem::ProblemKind};

/// The limits of connections.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// How many may be open. For the next ones, some that wait for their clients are closed; where
    /// there are none, they are answered with 503.
    pub connections: usize,
    /// How many may wait for room, or be refused, at the same time; the next wait in the kernel. As many
    /// that are closed may wait for their clients to have read the last answer.
    pub waiting: usize,
    /// How slow a client may be.
    pub patience: Patience,
    /// The largest head of a request.
    pub head_bytes: usize,
    /// For what is read and not yet a request.
    pub budget: &'static ByteBudget,
    /// Who they are from.
    pub clients: Arc<ClientAddresses>,
}

/// How long one may wait for room, and how often it is looked for.
const ROOM_TIME: Duration = Duration::from_secs(1);
const ROOM_INTERVAL: Duration = Duration::from_millis(50);
/// How many connections may wait in the kernel to be accepted. When a sale opens, thousands come
/// within a moment; one that finds no place is tried again by its client a second later.
const BACKLOG: u32 = 4096;
/// How much of an answer that its client does not take may be in the kernel.
const UNSENT_BYTES: u32 = 32 * 1024;
/// How much of what a client sends may be in the kernel, about. It bounds how fast a large body comes
/// from far away: so much in the time of a round trip.
const UNREAD_BYTES: u32 = 64 * 1024;
/// Files that are kept open so that they can be closed when there are no more: what this process
/// needs then besides new connections gets theirs.
const RESERVED_FILES: usize = 16;
/// How long no connection is accepted after there were no files.
const WITHOUT_FILES: Duration = Duration::from_millis(100);
/// How long fewer connections are accepted after there were no files.
const FEWER_FOR: Duration = Duration::from_secs(30);

/// The public port, open.
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    limits: ConnectionLimits,
    metrics: Arc<HttpMetrics>,
}

impl Listener {
    /// Opens the port. Connections wait in the kernel until [`run`](Self::run).
    ///
    /// # Errors
    /// The port is taken, or may not be opened.
    pub fn bind(
        address: SocketAddr,
        limits: ConnectionLimits,
        metrics: Arc<HttpMetrics>,
    ) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A server that is started again must not wait for the connections of its predecessor.
        socket.set_reuseaddr(true)?;
        // Connections have it from here. The kernel would let it grow to megabytes for each of them.
        socket.set_recv_buffer_size(UNREAD_BYTES)?;
        socket.bind(address)?;
        let tcp = socket.listen(BACKLOG)?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address, limits, metrics })
    }

    /// Where it listens: tells the port if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `stop` ends, then closes the port. Gives back those that are
    /// still open. Dropped before, it closes the port, and those that are open go on.
    pub async fn run(
        self,
        service: Arc<Service>,
        stop: impl Future<Output = ()>,
    ) -> ConnectionsLeft {
        let accepting = Accepting::new(service, &self.limits, self.metrics);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, from)) => accepting.open(stream, from).await,
                    Err(error) => accepting.failed(&error).await,
                },
            }
        }
        // A client that has connected already would see its connection reset.
        while let Some(Ok((stream, from))) = self.tcp.accept().now_or_never() {
            accepting.open(stream, from).await;
        }
        drop(self.tcp);
        ConnectionsLeft { open: accepting.open, tasks: accepting.tasks }
    }
}

/// Connections that outlive the port.
pub struct ConnectionsLeft {
    open: Arc<OpenConnections>,
    tasks: TaskTracker,
}

impl ConnectionsLeft {
    /// Lets each connection end after the request that it is at, and waits for that. Dropping the
    /// future lets them go on.
    pub async fn ended(self) {
        self.open.end();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Accepting {
    connecting: Arc<Connecting>,
    open: Arc<OpenConnections>,
    clients: Arc<ClientAddresses>,
    tasks: TaskTracker,
    /// For connections.
    places: Arc<Semaphore>,
    /// For connections that have none.
    waiting: Arc<Semaphore>,
    ids: AtomicU64,
    metrics: Arc<HttpMetrics>,
    files: DescriptorReserve,
}

impl Accepting {
    fn new(service: Arc<Service>, limits: &ConnectionLimits, metrics: Arc<HttpMetrics>) -> Self {
        Self {
            connecting: Arc::new(Connecting {
                http: Connecting::http(limits.head_bytes),
                service,
                patience: limits.patience,
                head_bytes: limits.head_bytes,
                budget: limits.budget,
                lingering: Semaphore::new(limits.waiting),
            }),
            open: OpenConnections::new(),
            clients: Arc::clone(&limits.clients),
            tasks: TaskTracker::new(),
            places: Arc::new(Semaphore::new(limits.connections)),
            waiting: Arc::new(Semaphore::new(limits.waiting)),
            ids: AtomicU64::new(0),
            metrics,
            files: DescriptorReserve::new(),
        }
    }

    async fn open(&self, stream: TcpStream, from: SocketAddr) {
        // Without it, an answer may wait 40 ms for an acknowledgement. It fails only on a
        // connection that is gone already.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
        let Ok(local) = stream.local_addr() else { return };
        let address = from.ip().to_canonical();
        let client = Client { address, local, is_proxy: self.clients.is_proxy(address) };
        let Ok(counted) = self.clients.connection(&client) else {
            self.metrics.connections_refused.inc();
            return self.turn_away(stream, ProblemKind::TooManyConnections).await;
        };
        let place = if self.files.allow(self.open.count()) {
            Arc::clone(&self.places).try_acquire_owned().ok()
        } else {
            None
        };
        match place {
            Some(place) => self.serve(stream, client, (place, counted)),
            None => self.serve_later(stream, client, counted).await,
        }
    }

    fn serve<C: Send + 'static>(
        &self,
        stream: TcpStream,
        client: Client,
        place: (OwnedSemaphorePermit, C),
    ) {
        let serving = self.serving(stream, client);
        self.tasks.spawn(serving.run(place));
    }

    /// Serves it as soon as others have made room, or says that there is none.
    async fn serve_later<C: Send + 'static>(&self, stream: TcpStream, client: Client, counted: C) {
        // It is never closed.
        let waiting = Arc::clone(&self.waiting).acquire_owned().await;
        let place =
            make_room(Arc::clone(&self.open), Arc::clone(&self.places), Arc::clone(&self.metrics));
        let answer = self.refusal(ProblemKind::Overloaded);
        let refused = self.metrics.connections_refused.clone();
        let serving = self.serving(stream, client);
        self.tasks.spawn(async move {
            match tokio::time::timeout(ROOM_TIME, place).await {
                Ok(place) => {
                    drop(waiting);
                    serving.run(place).await;
                }
                Err(_elapsed) => {
                    refused.inc();
                    turn_away(serving.stream, &answer).await;
                    drop(waiting);
                }
            }
            drop(counted);
        });
    }

    fn serving(&self, stream: TcpStream, client: Client) -> AcceptedConnection {
        AcceptedConnection {
            stream,
            client,
            id: self.ids.fetch_add(1, Ordering::Relaxed),
            connecting: Arc::clone(&self.connecting),
            open: Arc::clone(&self.open),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn refusal(&self, kind: ProblemKind) -> Vec<u8> {
        self.connecting.service.refusal(kind, kind.explanation(), None)
    }

    /// Says why it is not served, in bounded time and for a bounded number at once.
    async fn turn_away(&self, stream: TcpStream, kind: ProblemKind) {
        // It is never closed.
        let waiting = Arc::clone(&self.waiting).acquire_owned().await;
        let answer = self.refusal(kind);
        self.tasks.spawn(async move {
            turn_away(stream, &answer).await;
            drop(waiting);
        });
    }

    /// Errors of one connection are passed over. Without files, connections have to end first: those
    /// that wait for their clients are closed, and the next ones wait in the kernel meanwhile.
    async fn failed(&self, error: &io::Error) {
        let of_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
        );
        if of_connection {
            return;
        }
        self.files.spent(self.open.count());
        self.metrics.connections_evicted.inc_by(self.open.make_room() as u64);
        if self.files.may_log() {
            tracing::error!(%error, "connections cannot be accepted; at most one a second is logged");
        }
        tokio::time::sleep(WITHOUT_FILES).await;
    }
}

/// Has others close until there is a place.
async fn make_room(
    open: Arc<OpenConnections>,
    places: Arc<Semaphore>,
    metrics: Arc<HttpMetrics>,
) -> Option<OwnedSemaphorePermit> {
    // One place in the queue, or those who come later would get in first.
    let mut place = std::pin::pin!(places.acquire_owned());
    loop {
        metrics.connections_evicted.inc_by(open.make_room() as u64);
        if let Ok(place) = tokio::time::timeout(ROOM_INTERVAL, place.as_mut()).await {
            // It is never closed.
            return place.ok();
        }
    }
}

/// A connection that is about to be served.
struct AcceptedConnection {
    stream: TcpStream,
    client: Client,
    id: u64,
    connecting: Arc<Connecting>,
    open: Arc<OpenConnections>,
    metrics: Arc<HttpMetrics>,
}

impl AcceptedConnection {
    /// The place is free when nothing more is answered.
    async fn run<P>(self, place: P) {
        self.metrics.connections.inc();
        let entry = self.open.enter(self.id);
        let left = self.connecting.serve(self.stream, self.client, &entry.state).await;
        drop((entry, place));
        self.metrics.connections.dec();
        if let Some(socket) = left {
            self.connecting.linger(socket).await;
        }
    }
}

/// What the port does when the process has no file descriptors left.
struct DescriptorReserve {
    reserved: parking_lot::Mutex<Vec<File>>,
    /// How many connections may be open until [`Self::until`].
    ceiling: AtomicUsize,
    until: parking_lot::Mutex<Option<Instant>>,
    logged: parking_lot::Mutex<Option<Instant>>,
}

impl DescriptorReserve {
    fn new() -> Self {
        let files = Self {
            reserved: parking_lot::Mutex::default(),
            ceiling: AtomicUsize::new(usize::MAX),
            until: parking_lot::Mutex::default(),
            logged: parking_lot::Mutex::default(),
        };
        files.reserve();
        files
    }

    fn reserve(&self) {
        let open = || File::open("/dev/null").ok();
        let files = std::iter::repeat_with(open).map_while(|file| file).take(RESERVED_FILES);
        *self.reserved.lock() = files.collect();
    }

    /// There are none: gives up the reserved ones, which are not for connections.
    fn spent(&self, connections: usize) {
        self.reserved.lock().clear();
        self.ceiling.store(connections.saturating_sub(RESERVED_FILES), Ordering::Relaxed);
        *self.until.lock() = Some(Instant::now() + FEWER_FOR);
    }

    /// Whether one more connection may be open.
    fn allow(&self, connections: usize) -> bool {
        if connections < self.ceiling.load(Ordering::Relaxed) {
            return true;
        }
        let mut until = self.until.lock();
        if until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        *until = None;
        self.ceiling.store(usize::MAX, Ordering::Relaxed);
        self.reserve();
        true
    }

    fn may_log(&self) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock();
        let may = logged.is_none_or(|last| now - last >= Duration::from_secs(1));
        if may {
            *logged = Some(now);
        }
        may
    }
}
