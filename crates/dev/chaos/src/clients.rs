//! Clients that write continuously and remember each answer.
//!
//! | file | subject |
//! |---|---|
//! | `exchange` | one request and its answer, or a hang-up |
//! | `buyer` | a client that orders the same products again and again |
//! | `writer` | a client that writes on every route |

mod buyer;
mod exchange;
mod writer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use holdfast_bench::audit::Log;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use exchange::Moment;
pub(crate) use exchange::{KeptConnection, Told};
use writer::Writer;

/// The number of wrong answers that are kept.
const WRONG_MAX: usize = 5;

/// The pause between two requests of a client, so that the machine has capacity for the faults.
const PAUSE: Duration = Duration::from_millis(10);

/// The time limit for accepted orders.
const MORE_MAX: Duration = Duration::from_mins(1);

/// The number of clients of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Clients that order and wait for each answer.
    pub buyers: usize,
    /// Clients that write on every route. Every second one waits for each answer, and the others sometimes hang up.
    pub writers: usize,
    /// The frequency of hang-ups (0 to 1).
    pub hang_ups: f64,
    /// The seed of the writers.
    pub seed: u64,
}

/// The addresses of a replica.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaAddress {
    /// The public port.
    pub public: SocketAddr,
    /// The admin port.
    pub admin: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Success, with the whole answer.
    Accepted,
    /// 503 with `Retry-After` or another refusal, or no connection: nothing was changed.
    Refused,
    /// Sent, with an unknown outcome.
    CutOff,
    /// Anything else, which violates a guarantee.
    Wrong,
}

/// One request for an order.
#[derive(Clone, Copy, Debug)]
pub struct ClientEvent {
    /// The time of its answer.
    pub at: Instant,
    /// The time until the answer.
    pub took: Duration,
    pub product: i64,
    pub outcome: RequestOutcome,
}

/// The shared log of all clients.
#[derive(Debug, Default)]
pub struct ClientsRecord {
    /// For the audit.
    pub log: Log,
    /// Each request of a buyer, in the order of the answers.
    pub events: Vec<ClientEvent>,
    /// The first few answers that violate guarantee 5.
    pub wrong: Vec<String>,
    /// Answers by status and kind of problem; without a connection, `"none"`.
    pub answers: BTreeMap<String, u64>,
    /// The number of hang-ups, by route and moment.
    pub hang_ups: BTreeMap<(&'static str, Moment), u64>,
}

impl ClientsRecord {
    fn wrong(&mut self, what: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(what);
        }
    }
}

/// Running clients. A drop ends them during a request; [`Self::stop`] does not.
#[derive(Debug)]
pub struct Clients {
    seen: Arc<Mutex<ClientsRecord>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts clients, each with one of `targets`. The buyers of a target form pairs that share `products`, and each orders
    /// its products in turn. So two requests share a batch, and a wait for one product does not block the others.
    pub fn start(
        crowd: &Crowd,
        targets: &[ReplicaAddress],
        products: &[i64],
        initial_stock: BTreeMap<i64, i64>,
    ) -> Self {
        let log = Log { initial_stock, ..Log::default() };
        let seen = Arc::new(Mutex::new(ClientsRecord { log, ..ClientsRecord::default() }));
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for (number, target) in (0..crowd.buyers).zip(targets.iter().cycle()) {
            let (seen, stop) = (Arc::clone(&seen), stop.subscribe());
            let pairs = crowd.buyers.div_ceil(2 * targets.len());
            let (public, at_target) = (target.public, number / targets.len());
            let products: Vec<_> =
                products.iter().copied().skip(at_target / 2).step_by(pairs).collect();
            tasks.spawn(async move {
                buyer::run(public, products, at_target % 2, &seen, stop).await;
            });
        }
        for (number, target) in (0..crowd.writers).zip(targets.iter().cycle()) {
            let (seen, stop) = (Arc::clone(&seen), stop.subscribe());
            // Of two clients of a target, one waits for its answers.
            let hang_ups =
                if (number / targets.len()).is_multiple_of(2) { crowd.hang_ups } else { 0.0 };
            let random = StdRng::seed_from_u64(crowd.seed.wrapping_add(number as u64));
            let name = format!("{:x}-{number}", crowd.seed);
            let writer = Writer::new(name, *target, products.to_vec(), hang_ups, random);
            tasks.spawn(async move { writer.run(&seen, stop).await });
        }
        Self { seen, stop, tasks }
    }

    /// Reads the log so far.
    pub fn look<T>(&self, look: impl FnOnce(&ClientsRecord) -> T) -> T {
        look(&self.seen.lock())
    }

    /// Orders that were accepted so far.
    pub fn accepted(&self) -> usize {
        self.look(|seen| seen.log.accepted.len())
    }

    /// Waits until this many more orders are accepted.
    ///
    /// # Errors
    /// They were not accepted in time.
    pub async fn more(&self, count: usize) -> anyhow::Result<()> {
        let (before, begun) = (self.accepted(), Instant::now());
        while self.accepted() < before + count {
            let answers = self.look(|seen| seen.answers.clone());
            ensure!(begun.elapsed() < MORE_MAX, "orders are not accepted: {answers:?}");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Lets each client finish its request; returns the log.
    pub async fn stop(mut self) -> ClientsRecord {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut self.seen.lock())
    }
}
