//! The internal port: `/metrics`, `/livez`, `/readyz`. Not for the public.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::{Readiness, metrics_page};

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
    /// The port is taken, or may not be opened.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens: tells the port if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped. `/livez` and `/metrics` should answer to the very end, so this
    /// has no graceful way out.
    ///
    /// # Errors
    /// The listener fails for good.
    pub async fn serve(self, registry: Registry, readiness: Readiness) -> io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "ok"))
            .route("/readyz", get(readyz))
            .with_state(Shown { registry, readiness });
        axum::serve(self.listener, router).await
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match metrics_page(&shown.registry) {
        Ok(page) => {
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(header::CONTENT_TYPE, format)], page).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
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
