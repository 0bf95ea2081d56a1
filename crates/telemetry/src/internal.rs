//! The internal port: `/metrics`, `/livez`, `/readyz`, and `/log-level`, which can be changed by
//! `PUT`. Not for the public.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::{Readiness, log_level, metrics_page};

/// The largest body that is taken.
const BODY_MAX: usize = 4096;

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
            .route("/log-level", get(log_level_now).put(set_log_level))
            .layer(DefaultBodyLimit::max(BODY_MAX))
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

async fn log_level_now() -> Response {
    match log_level::get() {
        Some(now) => format!("{now}\n").into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Until the process ends; then `HOLDFAST_LOG` counts again.
async fn set_log_level(text: String) -> (StatusCode, String) {
    match log_level::set(&text) {
        Ok(()) => (StatusCode::OK, log_level::get().unwrap_or_default() + "\n"),
        Err(must_be) => (StatusCode::UNPROCESSABLE_ENTITY, format!("the level {must_be}\n")),
    }
}
