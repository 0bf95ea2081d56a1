//! The receiver of fulfilled orders: it counts how often it has seen each id.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::{Router, extract::State, http::HeaderMap, routing::post};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What workers sign with.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type Counts = Arc<Mutex<HashMap<String, u64>>>;

#[derive(Clone, Debug, Default)]
struct Seen {
    counts: Counts,
    /// Answers wait while it is `true`.
    paused: watch::Sender<bool>,
}

/// A receiver of webhooks on the loopback interface. Dropping it ends it.
#[derive(Debug)]
pub struct Downstream {
    address: SocketAddr,
    seen: Seen,
    // Held for its drop.
    _tasks: JoinSet<()>,
}

impl Downstream {
    /// Starts it.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let app = Router::new().route("/orders", post(receive)).with_state(seen.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, seen, _tasks: tasks })
    }

    /// Where orders are sent.
    pub fn url(&self) -> String {
        format!("http://{}/orders", self.address)
    }

    /// While this is on, it counts what comes, and does not answer.
    pub fn pause(&self, on: bool) {
        self.seen.paused.send_replace(on);
    }

    /// Whether it was told of this order.
    pub fn has(&self, order: i64) -> bool {
        self.seen.counts.lock().contains_key(&format!("order_{order}"))
    }

    /// Distinct ids, and requests that repeated one: work that was done and whose outcome was lost
    /// with its worker is sent again under the id it had.
    pub fn counts(&self) -> (u64, u64) {
        let seen = self.seen.counts.lock();
        let all: u64 = seen.values().sum();
        (seen.len() as u64, all - seen.len() as u64)
    }
}

async fn receive(State(seen): State<Seen>, headers: HeaderMap) {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    *seen.counts.lock().entry(id.to_owned()).or_default() += 1;
    let _ = seen.paused.subscribe().wait_for(|paused| !paused).await;
}
