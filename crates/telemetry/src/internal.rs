//! The internal port: `/metrics`, `/livez` and `/readyz`. Every pod of a cluster may reach it without a credential, so it is
//! read-only, and no client can keep it from answering a probe.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use crate::{Readiness, Registry};

/// The most connections. A further one replaces another, so that probes are always answered.
const CONNECTIONS_MAX: usize = 64;
const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may take for its one request and answer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 16 * 1024;
/// The pause when no connection can be accepted, for example because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The internal port, open but not yet answering.
#[derive(Debug)]
pub struct InternalServer {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone)]
struct Shown {
    registry: Registry,
    readiness: Readiness,
}

impl InternalServer {
    /// Opens the port.
    ///
    /// # Errors
    /// The port is in use, or may not be opened.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the assigned port if port 0 was requested.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped, which closes all connections. There is no graceful shutdown, because `/livez` and
    /// `/metrics` should answer to the end.
    ///
    /// # Errors
    /// None at present.
    pub async fn serve(self, registry: Registry, readiness: Readiness) -> io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "ok"))
            .route("/readyz", get(readyz))
            .with_state(Shown { registry, readiness });
        let mut connections = RecentConnections::default();
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => connections.open(stream, from.ip(), router.clone()),
                Err(error) => {
                    tracing::debug!(%error, "a connection to the internal port was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Open connections, the oldest first.
#[derive(Default)]
struct RecentConnections {
    tasks: JoinSet<()>,
    handles: VecDeque<(IpAddr, AbortHandle)>,
}

impl RecentConnections {
    fn open(&mut self, stream: TcpStream, from: IpAddr, router: Router) {
        // Forget ended connections.
        while self.tasks.try_join_next().is_some() {}
        self.handles.retain(|(_, handle)| !handle.is_finished());
        while self.handles.len() >= CONNECTIONS_MAX {
            self.make_room();
        }
        let serving = async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_LIMIT)
                .max_buf_size(BUFFER_BYTES)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            // Fails if the client disconnects or is too slow.
            let _ = timeout(CONNECTION_LIMIT, connection).await;
        };
        self.handles.push_back((from, self.tasks.spawn(serving)));
    }

    /// Ends the oldest connection of the address that has the most, so that a pod with many does not end that of a probe.
    fn make_room(&mut self) {
        let mut counts = HashMap::new();
        for (from, _) in &self.handles {
            *counts.entry(*from).or_insert(0_usize) += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(from, _)| from);
        let at = self.handles.iter().position(|(from, _)| Some(*from) == most);
        if let Some((_, oldest)) = at.and_then(|at| self.handles.remove(at)) {
            oldest.abort();
        }
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match shown.registry.page() {
        Ok(page) => {
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(header::CONTENT_TYPE, format)], page).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    match shown.readiness.get() {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}
