//! Clients that order at a fixed rate with keys. A request whose outcome is unknown is repeated with its key until it is
//! known.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use holdfast_bench::load::{Accepted, http_request};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::clients::{KeptConnection, RequestOutcome, Told};

/// Orders per second of all clients.
pub(super) const RATE: u32 = 200;
const CLIENTS: u32 = 40;
/// The product that all clients order if there is no other.
const USUAL: i64 = 1;
/// The pause before a request is repeated.
const REPEAT: Duration = Duration::from_millis(200);
/// For so long after the end of the load, requests are repeated.
const RESOLVE: Duration = Duration::from_mins(1);
const WRONG_MAX: usize = 5;
const MORE_MAX: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(10);

/// An order that was answered with 201.
#[derive(Clone, Debug)]
pub struct KeyedOrder {
    /// As in the audit's log.
    pub order: Accepted,
    /// A customer of its own, which is its key, too.
    pub customer: String,
    /// The time of the answer.
    pub at: Instant,
    /// The replica.
    pub replica: usize,
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub struct LoadRecord {
    /// All orders that were answered with 201, in the order of the answers.
    pub accepted: Vec<KeyedOrder>,
    /// The answers that refused a request, with their times, status and kind of problem.
    pub refused: Vec<(Instant, String)>,
    /// The customers of requests that were only refused: none of these has an order.
    pub without: Vec<String>,
    /// The times of answers that left the outcome unknown, or that did not arrive.
    pub unknown: Vec<Instant>,
    /// Requests whose outcome was still unknown at the end.
    pub unresolved: u64,
    /// Units of each further product.
    pub stock: BTreeMap<i64, i64>,
    /// The first few answers that break a promise.
    pub wrong: Vec<String>,
}

/// Running clients. A drop ends them during a request; [`Self::stop`] does not.
#[derive(Debug)]
pub struct KeyedLoad {
    seen: Arc<Mutex<LoadRecord>>,
    /// A product of few units that every second request orders; 0 if there is none.
    scarce: Arc<AtomicI64>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl KeyedLoad {
    /// Starts clients, each with one of `targets`.
    pub fn start(targets: &[SocketAddr]) -> Self {
        let (seen, scarce) = (Arc::<Mutex<LoadRecord>>::default(), Arc::<AtomicI64>::default());
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for (number, (replica, target)) in (0..CLIENTS).zip(targets.iter().enumerate().cycle()) {
            let client = LoadClient {
                number,
                replica,
                connection: KeptConnection::new(*target),
                seen: Arc::clone(&seen),
                scarce: Arc::clone(&scarce),
                stop: stop.subscribe(),
            };
            tasks.spawn(client.run());
        }
        Self { seen, scarce, stop, tasks }
    }

    /// Reads the record so far.
    pub fn look<T>(&self, look: impl FnOnce(&LoadRecord) -> T) -> T {
        look(&self.seen.lock())
    }

    /// From now on, every second order is of this product.
    pub fn sell(&self, product: i64, stock: i64) {
        self.seen.lock().stock.insert(product, stock);
        self.scarce.store(product, Ordering::Relaxed);
    }

    /// Waits until each replica has accepted this many more orders.
    ///
    /// # Errors
    /// This takes more than two minutes.
    pub async fn more(&self, count: usize, replicas: usize) -> anyhow::Result<()> {
        let accepted = |seen: &LoadRecord| -> Vec<usize> {
            let of = |replica| seen.accepted.iter().filter(|it| it.replica == replica).count();
            (0..replicas).map(of).collect()
        };
        let (before, begun) = (self.look(accepted), Instant::now());
        loop {
            let now = self.look(accepted);
            if now.iter().zip(&before).all(|(now, before)| *now >= before + count) {
                return Ok(());
            }
            let last = self.look(|seen| seen.refused.last().cloned());
            ensure!(begun.elapsed() < MORE_MAX, "orders are not accepted: {now:?}, {last:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Lets each client learn the outcome of its request; returns the record.
    pub async fn stop(mut self) -> LoadRecord {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut self.seen.lock())
    }
}

struct LoadClient {
    number: u32,
    replica: usize,
    connection: KeptConnection,
    seen: Arc<Mutex<LoadRecord>>,
    scarce: Arc<AtomicI64>,
    stop: watch::Receiver<bool>,
}

impl LoadClient {
    async fn run(mut self) {
        let mut pace = tokio::time::interval(Duration::from_secs(1) * CLIENTS / RATE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stagger = Duration::from_secs(1) * self.number / RATE;
        tokio::time::sleep(stagger).await;
        for count in 0_u64.. {
            pace.tick().await;
            if *self.stop.borrow() {
                return;
            }
            let scarce = self.scarce.load(Ordering::Relaxed);
            let product = if scarce != 0 && count % 2 == 0 { scarce } else { USUAL };
            self.order(&format!("client-{}-{count}", self.number), product).await;
        }
    }

    /// Orders one unit. The customer is the key, too.
    async fn order(&mut self, customer: &str, product: i64) {
        let body =
            json!({ "product_id": product, "quantity": 1, "customer_ref": customer }).to_string();
        let request = http_request("POST", "/orders", Some(customer), Some(&body));
        let (mut open, mut stopped) = (false, None);
        loop {
            let told = self.connection.send(&request, None).await;
            let at = Instant::now();
            let known = self.note(&told, customer, product, at, open);
            if known {
                return;
            }
            open |= told.outcome(&[409]) == RequestOutcome::CutOff;
            if *self.stop.borrow() && stopped.get_or_insert(at).elapsed() > RESOLVE {
                self.seen.lock().unresolved += 1;
                return;
            }
            tokio::time::sleep(REPEAT).await;
        }
    }

    /// Returns whether it is known what became of the request. `open` means that an earlier one may have been done.
    fn note(&self, told: &Told, customer: &str, product: i64, at: Instant, open: bool) -> bool {
        let mut seen = self.seen.lock();
        match (told, told.outcome(&[409])) {
            (Told::Answer { status: 201, body, .. }, RequestOutcome::Accepted)
                if body["id"].is_i64() =>
            {
                let id = body["id"].as_i64().unwrap_or_default();
                seen.accepted.push(KeyedOrder {
                    order: Accepted { id, product_id: product, quantity: 1 },
                    customer: customer.to_owned(),
                    at,
                    replica: self.replica,
                });
                true
            }
            (_, RequestOutcome::CutOff) => {
                seen.unknown.push(at);
                false
            }
            (Told::Answer { status, .. }, RequestOutcome::Refused) => {
                // Not sold out, but the state of the shop: the request is done, and there is nothing to repeat.
                let sold_out = *status == 409;
                if !sold_out {
                    seen.refused.push((at, told.words()));
                }
                if !open || sold_out {
                    seen.without.push(customer.to_owned());
                }
                !open || sold_out
            }
            (_, RequestOutcome::Refused) => !open,
            _ => {
                if seen.wrong.len() < WRONG_MAX {
                    seen.wrong.push(format!("POST /orders: {}", told.words()));
                }
                true
            }
        }
    }
}
