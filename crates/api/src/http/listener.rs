//! Accepting connections: how many, how slow they may be, and how they end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Request, header},
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};

use super::{HttpMetrics, RequestIds, Service};
use crate::problem::{Kind, Problem};

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How many may be open. The next ones are answered with 503, and beyond [`REFUSED_AT_ONCE`]
    /// of those wait in the kernel.
    pub connections: usize,
    /// The longest wait for the headers of a request, which is also how long an idle connection
    /// is kept.
    pub header_timeout: Duration,
}

/// How many connections are refused at the same time.
const REFUSED_AT_ONCE: usize = 256;
/// How long refusing one may take.
const REFUSE_TIME: Duration = Duration::from_secs(2);
/// What hyper buffers of a connection: bounds the headers, and the memory of a slow reader.
const BUFFER_BYTES: usize = 64 * 1024;

/// How many connections may wait in the kernel to be accepted. When a sale opens, thousands come
/// within a moment; one that finds no place is tried again by its client a second later.
const BACKLOG: u32 = 4096;

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
    /// still open.
    pub async fn run(
        self,
        service: Arc<Service>,
        stop: impl Future<Output = ()>,
    ) -> OpenConnections {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(BUFFER_BYTES);
        let connections = Connections {
            http,
            service,
            graceful: GracefulShutdown::new(),
            places: Arc::new(Semaphore::new(self.limits.connections)),
            refusals: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
            metrics: self.metrics,
        };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => connections.open(stream).await,
                    Err(error) => pause_after(&error).await,
                },
            }
        }
        // Who is at the door already would see his connection reset.
        while let Some(Ok((stream, _))) = self.tcp.accept().now_or_never() {
            connections.open(stream).await;
        }
        drop(self.tcp);
        OpenConnections(connections.graceful)
    }
}

/// Connections that outlive the port.
pub struct OpenConnections(GracefulShutdown);

impl OpenConnections {
    /// Lets each connection end after the request that it is at, and waits for that. Dropping the
    /// future lets them go on.
    pub async fn ended(self) {
        self.0.shutdown().await;
    }
}

struct Connections {
    http: http1::Builder,
    service: Arc<Service>,
    graceful: GracefulShutdown,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    metrics: Arc<HttpMetrics>,
}

impl Connections {
    async fn open(&self, stream: TcpStream) {
        // Without it, an answer may wait 40 ms for an acknowledgement. It fails only on a
        // connection that is gone already.
        let _ = stream.set_nodelay(true);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.refuse(stream).await;
        };
        let service = Arc::clone(&self.service);
        let metrics = Arc::clone(&self.metrics);
        let connection = self.http.serve_connection(
            TokioIo::new(stream),
            service_fn(move |request: Request<Incoming>| {
                let service = Arc::clone(&service);
                async move { service.answer(request.map(Body::new)).await }
            }),
        );
        let connection = self.graceful.watch(connection);
        metrics.connections.inc();
        tokio::spawn(async move {
            // A client that breaks off, sends no HTTP or is too slow: its own affair.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection ended early");
            }
            metrics.connections.dec();
            drop(place);
        });
    }

    /// Too many are open: says so, in bounded time and for a bounded number at once.
    async fn refuse(&self, stream: TcpStream) {
        self.metrics.connections_refused.inc();
        // It is never closed.
        let permit = Arc::clone(&self.refusals).acquire_owned().await;
        let mut http = self.http.clone();
        http.keep_alive(false);
        tokio::spawn(async move {
            let refusing = http.serve_connection(
                TokioIo::new(stream),
                service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(refusal()) }),
            );
            let _ = tokio::time::timeout(REFUSE_TIME, refusing).await;
            drop(permit);
        });
    }
}

fn refusal() -> Response {
    let problem = Problem::new(Kind::Overloaded).and_close();
    let mut response = problem.clone().into_response();
    let id = RequestIds::default().make();
    problem.write(&mut response, id.as_str());
    response.headers_mut().insert(super::request_id::X_REQUEST_ID, id.into_header());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Errors of one connection are passed over; without file handles there is nothing to do but wait
/// for connections to end.
async fn pause_after(error: &io::Error) {
    let of_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !of_connection {
        tracing::error!(%error, "a connection could not be accepted");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
