//! The receiver of orders. It counts the requests for each order, and refuses some at first.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use holdfast_sandbox::{Program, workspace_binary};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The secret with which workers sign.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Orders of customers with such names are refused at first, and so become dead letters.
pub const REFUSED_AT_FIRST: &str = "refused-at-first-";

type CallCounts = Arc<Mutex<HashMap<i64, u64>>>;

#[derive(Clone, Debug, Default)]
struct ReceivedMessages {
    counts: CallCounts,
    /// The ids by the order's number.
    messages: Arc<Mutex<HashMap<i64, BTreeSet<String>>>>,
    /// The messages whose orders it has fulfilled.
    fulfilled: Arc<Mutex<BTreeSet<String>>>,
    /// The customers and the messages about their orders.
    customers: Arc<Mutex<BTreeSet<(String, String)>>>,
    /// Answers wait while it is `true`.
    paused: watch::Sender<bool>,
}

/// A receiver of webhooks on the loopback interface. It ends on drop.
#[derive(Debug)]
pub struct Downstream {
    address: SocketAddr,
    seen: ReceivedMessages,
    // Held for its drop.
    _tasks: JoinSet<()>,
}

impl Downstream {
    /// Starts it.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
        let address = listener.local_addr()?;
        let seen = ReceivedMessages::default();
        let app = Router::new().route("/orders", post(receive)).with_state(seen.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, seen, _tasks: tasks })
    }

    /// A worker that sends its orders here. Its times are shorter than the defaults, because runs are short.
    ///
    /// # Errors
    /// The program is not built.
    pub fn worker(&self, database_url: &str, redis_url: &str) -> anyhow::Result<Program> {
        let settings = [
            ("HOLDFAST_LEASE_MS", "1500"),
            ("HOLDFAST_SWEEP_INTERVAL_MS", "200"),
            ("HOLDFAST_SWEEP_AFTER_MS", "1500"),
            ("HOLDFAST_RETRY_BASE_MS", "100"),
            ("HOLDFAST_FULFILMENT", "webhook"),
            ("HOLDFAST_WEBHOOK_URL", &self.url()),
            ("HOLDFAST_WEBHOOK_SECRET", SECRET),
            ("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "true"),
        ];
        let worker =
            Program::worker(&workspace_binary("holdfast-worker")?, database_url, redis_url)?;
        Ok(settings.into_iter().fold(worker, |worker, (name, value)| worker.env(name, value)))
    }

    pub fn url(&self) -> String {
        format!("http://{}/orders", self.address)
    }

    /// While this is on, it counts requests but does not answer.
    pub fn pause(&self, on: bool) {
        self.seen.paused.send_replace(on);
    }

    /// Whether it has received this order.
    pub fn has(&self, order: i64) -> bool {
        self.seen.counts.lock().contains_key(&order)
    }

    /// The ids of the messages about orders with this number: one, unless the number was assigned again.
    pub fn messages_of(&self, order: i64) -> BTreeSet<String> {
        self.seen.messages.lock().get(&order).cloned().unwrap_or_default()
    }

    /// The ids of the messages whose orders it has fulfilled, even if its answers did not arrive.
    pub fn fulfilled(&self) -> BTreeSet<String> {
        self.seen.fulfilled.lock().clone()
    }

    /// The customers for whom it has fulfilled several orders, and the number of messages with several customers. For clients
    /// with one order for each customer.
    pub fn confusions(&self) -> (BTreeSet<String>, usize) {
        let customers = self.seen.customers.lock();
        let twice = customers.iter().zip(customers.iter().skip(1));
        let twice = twice.filter(|(one, next)| one.0 == next.0).map(|(one, _)| one.0.clone());
        let messages: BTreeSet<_> = customers.iter().map(|(_, message)| message).collect();
        (twice.collect(), customers.len() - messages.len())
    }

    /// The orders that it has received.
    pub fn orders(&self) -> Vec<i64> {
        self.seen.counts.lock().keys().copied().collect()
    }

    /// The number of distinct orders, and of repeated requests. An order is sent again if its outcome was lost with its
    /// worker, or if it was refused and replayed.
    pub fn counts(&self) -> (u64, u64) {
        let seen = self.seen.counts.lock();
        let all: u64 = seen.values().sum();
        (seen.len() as u64, all - seen.len() as u64)
    }
}

async fn receive(
    State(seen): State<ReceivedMessages>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    let order = &body["data"];
    let Some(id) = order["id"].as_i64() else { return StatusCode::BAD_REQUEST };
    let message = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    seen.messages.lock().entry(id).or_default().insert(message.to_owned());
    let count = {
        let mut counts = seen.counts.lock();
        let count = counts.entry(id).or_default();
        *count += 1;
        *count
    };
    let customer = order["customer_ref"].as_str().unwrap_or_default();
    let refused = count == 1 && customer.starts_with(REFUSED_AT_FIRST);
    if !refused {
        seen.fulfilled.lock().insert(message.to_owned());
        seen.customers.lock().insert((customer.to_owned(), message.to_owned()));
    }
    let _ = seen.paused.subscribe().wait_for(|paused| !paused).await;
    if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
}
