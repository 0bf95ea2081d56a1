//! Clients that write without a pause, and remember what each was told.
//!
//! | file | subject |
//! |---|---|
//! | `exchange` | one request, its answer, and hanging up in between |
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
use writer::Writer;

/// Wrong answers of which the words are kept.
const WRONG_MAX: usize = 5;

/// Between two requests of one client, so that the machine has room for the faults.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a wait for accepted orders may take.
const MORE_MAX: Duration = Duration::from_mins(1);

/// Which clients there are.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Those that order and wait for each answer.
    pub buyers: usize,
    /// Those that write on every route: every second one waits for each answer, the others hang up now and then.
    pub writers: usize,
    /// How often those hang up, 0 to 1.
    pub hang_ups: f64,
    /// Draws what writers do.
    pub seed: u64,
}

/// Where a replica listens.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaAddress {
    /// For customers.
    pub public: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// A status of success, and the whole answer.
    Accepted,
    /// 503 with `Retry-After` or another refusal, or no connection: nothing happened.
    Refused,
    /// Sent, and the outcome was not told.
    CutOff,
    /// Anything else: a broken promise.
    Wrong,
}

/// One request for an order.
#[derive(Clone, Copy, Debug)]
pub struct ClientEvent {
    /// When its answer came.
    pub at: Instant,
    /// How long that took.
    pub took: Duration,
    /// The product it was for.
    pub product: i64,
    /// How it ended.
    pub outcome: RequestOutcome,
}

/// What all clients know together.
#[derive(Debug, Default)]
pub struct ClientsRecord {
    /// For the audit.
    pub log: Log,
    /// Each request of a buyer, in the order of the answers.
    pub events: Vec<ClientEvent>,
    /// Answers that break promise 5, in words; the first few.
    pub wrong: Vec<String>,
    /// Answers by status and kind of problem; without a connection, `"none"`.
    pub answers: BTreeMap<String, u64>,
    /// How often writers have hung up, by route and moment.
    pub hang_ups: BTreeMap<(&'static str, Moment), u64>,
}

impl ClientsRecord {
    fn wrong(&mut self, what: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(what);
        }
    }
}

/// Running clients. Dropping it ends them in mid-request; [`Self::stop`] does not.
#[derive(Debug)]
pub struct Clients {
    seen: Arc<Mutex<ClientsRecord>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts clients, each at one of `targets`. At each target buyers go in pairs which share out
    /// `products` among them, and order theirs in turn: so two meet in a batch, and who waits for one
    /// product does not keep others from being ordered.
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
            // Of each two at one target, one waits for its answers.
            let hang_ups =
                if (number / targets.len()).is_multiple_of(2) { crowd.hang_ups } else { 0.0 };
            let random = StdRng::seed_from_u64(crowd.seed.wrapping_add(number as u64));
            let name = format!("{:x}-{number}", crowd.seed);
            let writer = Writer::new(name, *target, products.to_vec(), hang_ups, random);
            tasks.spawn(async move { writer.run(&seen, stop).await });
        }
        Self { seen, stop, tasks }
    }

    /// Looks at what they know so far.
    pub fn look<T>(&self, look: impl FnOnce(&ClientsRecord) -> T) -> T {
        look(&self.seen.lock())
    }

    /// Orders that were accepted so far.
    pub fn accepted(&self) -> usize {
        self.look(|seen| seen.log.accepted.len())
    }

    /// Waits until so many more orders are accepted.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn more(&self, count: usize) -> anyhow::Result<()> {
        let (before, begun) = (self.accepted(), Instant::now());
        while self.accepted() < before + count {
            let answers = self.look(|seen| seen.answers.clone());
            ensure!(begun.elapsed() < MORE_MAX, "orders are not accepted: {answers:?}");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Lets each finish what it is at; returns what they know.
    pub async fn stop(mut self) -> ClientsRecord {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut self.seen.lock())
    }
}
