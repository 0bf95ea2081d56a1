//! Accepts connections, and limits their number.

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
    ClientAddresses, HttpMetrics, Peer, Service,
    connection::{Connecting, Patience, turn_away},
    log_limit::LogLimit,
    open_connections::OpenConnections,
};
use crate::{byte_budget::ByteBudget, problem::ProblemKind};

#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// The most open connections. Further ones replace connections that wait for their clients; if there are none, they get
    /// 503.
    pub connections: usize,
    /// The most connections that wait for room or are being refused at the same time; further ones wait in the kernel. The
    /// same number may linger until their clients have read the last answer.
    pub waiting: usize,
    /// The time limits for clients.
    pub patience: Patience,
    /// The largest head of a request.
    pub head_bytes: usize,
    /// The budget for requests.
    pub budget: &'static ByteBudget,
    pub clients: Arc<ClientAddresses>,
}

/// How long a connection may wait for room, and the time between two attempts.
const ROOM_TIME: Duration = Duration::from_secs(1);
const ROOM_INTERVAL: Duration = Duration::from_millis(50);
/// The most connections that wait in the kernel to be accepted. When a sale opens, thousands arrive at the same time. If
/// there is no room, the client's kernel tries again a second later.
const BACKLOG: u32 = 4096;
/// The size of the send buffer in the kernel.
const UNSENT_BYTES: u32 = 32 * 1024;
/// The approximate size of the receive buffer in the kernel, which counts as memory of the container. It limits the rate of a
/// large body to this many bytes per round trip.
const UNREAD_BYTES: u32 = 16 * 1024;
/// Reserved file descriptors. When the process has none left, these are closed, so that it can open files for purposes
/// other than connections.
const RESERVED_FILES: usize = 16;
/// How long no connection is accepted after the file descriptors ran out.
const WITHOUT_FILES: Duration = Duration::from_millis(100);
/// How long fewer connections are accepted after the file descriptors ran out.
const FEWER_FOR: Duration = Duration::from_secs(30);

/// An open port.
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    limits: ListenerLimits,
    metrics: Arc<HttpMetrics>,
}

impl Listener {
    /// Opens the port. Connections wait in the kernel until [`run`](Self::run).
    ///
    /// # Errors
    /// The port is in use, or this user may not open it.
    pub fn bind(
        address: SocketAddr,
        limits: ListenerLimits,
        metrics: Arc<HttpMetrics>,
    ) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // So that a restarted server does not have to wait for old connections.
        socket.set_reuseaddr(true)?;
        // Connections inherit this. Otherwise the kernel would let it grow to megabytes for each of them.
        socket.set_recv_buffer_size(UNREAD_BYTES)?;
        socket.bind(address)?;
        let tcp = socket.listen(BACKLOG)?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address, limits, metrics })
    }

    /// The local address, with the actual port if port 0 was requested.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `stop` ends, then closes the port. Returns the connections that are still open. If dropped,
    /// it closes the port, and open connections continue.
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
        // Otherwise, clients that have connected already would see a reset.
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
    /// Ends each connection after its current request, and waits for that. If the future is dropped, connections continue.
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
    /// Permits for connections.
    places: Arc<Semaphore>,
    /// Permits for connections that wait for room.
    waiting: Arc<Semaphore>,
    ids: AtomicU64,
    metrics: Arc<HttpMetrics>,
    files: DescriptorReserve,
}

impl Accepting {
    fn new(service: Arc<Service>, limits: &ListenerLimits, metrics: Arc<HttpMetrics>) -> Self {
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
        // Otherwise an answer may wait 40 ms for an acknowledgement. This fails only if the connection has ended.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
        let Ok(local) = stream.local_addr() else { return };
        let address = from.ip().to_canonical();
        let client = Peer { address, local, is_proxy: self.clients.is_proxy(address) };
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
        client: Peer,
        place: (OwnedSemaphorePermit, C),
    ) {
        let serving = self.serving(stream, client);
        self.tasks.spawn(serving.run(place));
    }

    /// Serves the connection as soon as there is room, or refuses it.
    async fn serve_later<C: Send + 'static>(&self, stream: TcpStream, client: Peer, counted: C) {
        // The semaphore is never closed.
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

    fn serving(&self, stream: TcpStream, client: Peer) -> AcceptedConnection {
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

    /// Refuses the connection, in limited time and for a limited number at once.
    async fn turn_away(&self, stream: TcpStream, kind: ProblemKind) {
        // The semaphore is never closed.
        let waiting = Arc::clone(&self.waiting).acquire_owned().await;
        let answer = self.refusal(kind);
        self.tasks.spawn(async move {
            turn_away(stream, &answer).await;
            drop(waiting);
        });
    }

    /// Errors of a single connection are ignored. If there are no file descriptors, connections that wait for their clients
    /// are closed, and new ones wait in the kernel.
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
        if self.files.log_limit.allows() {
            tracing::error!(%error, "connections cannot be accepted; logged at most once per second");
        }
        tokio::time::sleep(WITHOUT_FILES).await;
    }
}

/// Closes other connections until there is room.
async fn make_room(
    open: Arc<OpenConnections>,
    places: Arc<Semaphore>,
    metrics: Arc<HttpMetrics>,
) -> Option<OwnedSemaphorePermit> {
    // Keeps its position in the queue, so that later connections are not served first.
    let mut place = std::pin::pin!(places.acquire_owned());
    loop {
        metrics.connections_evicted.inc_by(open.make_room() as u64);
        if let Ok(place) = tokio::time::timeout(ROOM_INTERVAL, place.as_mut()).await {
            // The semaphore is never closed.
            return place.ok();
        }
    }
}

/// A connection that is ready to be served.
struct AcceptedConnection {
    stream: TcpStream,
    client: Peer,
    id: u64,
    connecting: Arc<Connecting>,
    open: Arc<OpenConnections>,
    metrics: Arc<HttpMetrics>,
}

impl AcceptedConnection {
    /// The permit is released after the last answer.
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

/// Handles a lack of file descriptors.
struct DescriptorReserve {
    reserved: parking_lot::Mutex<Vec<File>>,
    /// The most open connections until [`Self::until`].
    ceiling: AtomicUsize,
    until: parking_lot::Mutex<Option<Instant>>,
    log_limit: LogLimit,
}

impl DescriptorReserve {
    fn new() -> Self {
        let files = Self {
            reserved: parking_lot::Mutex::default(),
            ceiling: AtomicUsize::new(usize::MAX),
            until: parking_lot::Mutex::default(),
            log_limit: LogLimit::default(),
        };
        files.reserve();
        files
    }

    fn reserve(&self) {
        let open = || File::open("/dev/null").ok();
        let files = std::iter::repeat_with(open).map_while(|file| file).take(RESERVED_FILES);
        *self.reserved.lock() = files.collect();
    }

    /// Closes the reserved file descriptors, because there are none left.
    fn spent(&self, connections: usize) {
        self.reserved.lock().clear();
        self.ceiling.store(connections.saturating_sub(RESERVED_FILES), Ordering::Relaxed);
        *self.until.lock() = Some(Instant::now() + FEWER_FOR);
    }

    /// Whether another connection may be opened.
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
}
