//! Clients that order without a pause, and remember what each was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_bench::audit::Log;
use holdfast_bench::load::Accepted;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longer than the API lets an answer take.
const LIMIT: Duration = Duration::from_secs(40);

/// Between two orders of one client, so that the machine has room for the faults.
const PAUSE: Duration = Duration::from_millis(10);

/// How a request for an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 201.
    Accepted,
    /// 503 with `Retry-After`, or no connection: nothing happened.
    Refused,
    /// Sent, and the outcome was not told.
    CutOff,
    /// Anything else: a broken promise.
    Wrong,
}

/// One request for an order.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When its answer came.
    pub at: Instant,
    /// How long that took.
    pub took: Duration,
    /// The product it was for.
    pub product: i64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What all clients know together.
#[derive(Debug, Default)]
pub struct Seen {
    /// For the audit.
    pub log: Log,
    /// Each request, in the order of the answers.
    pub events: Vec<Event>,
    /// Answers that break promise 5, in words; the first few.
    pub wrong: Vec<String>,
    /// Answers by status and kind of problem; without a connection, `"none"`.
    pub answers: BTreeMap<String, u64>,
}

/// Running clients. Dropping it ends them in mid-request; [`Self::stop`] does not.
#[derive(Debug)]
pub struct Clients {
    seen: Arc<Mutex<Seen>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts `count` clients, each at one of `targets`. At each target they go in pairs which share out
    /// `products` among them, and order theirs in turn: so two meet in a batch, and who waits for one
    /// product does not keep others from being ordered.
    ///
    /// # Errors
    /// When there is no HTTP client to be had.
    pub fn start(
        count: usize,
        targets: &[SocketAddr],
        products: &[i64],
        initial_stock: BTreeMap<i64, i64>,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        let log = Log { initial_stock, ..Log::default() };
        let seen = Arc::new(Mutex::new(Seen { log, ..Seen::default() }));
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (http, seen, stop) = (http.clone(), Arc::clone(&seen), stop.subscribe());
            let Some(target) = targets.get(number % targets.len().max(1)) else { continue };
            let url = format!("http://{target}/orders");
            let (pairs, at_target) = (count.div_ceil(2 * targets.len()), number / targets.len());
            let products: Vec<_> =
                products.iter().copied().skip(at_target / 2).step_by(pairs).collect();
            tasks.spawn(async move {
                for product in products.iter().cycle().skip(at_target % 2) {
                    if *stop.borrow() {
                        return;
                    }
                    order(&http, &url, *product, &seen).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Ok(Self { seen, stop, tasks })
    }

    /// Looks at what they know so far.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock())
    }

    /// Orders that were accepted so far.
    pub fn accepted(&self) -> usize {
        self.look(|seen| seen.log.accepted.len())
    }

    /// Lets each finish what it is at; returns what they know.
    pub async fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut self.seen.lock())
    }
}

async fn order(http: &reqwest::Client, url: &str, product: i64, seen: &Mutex<Seen>) {
    let begun = Instant::now();
    let body = json!({ "product_id": product, "quantity": 1 });
    let (told, accepted, outcome) = match http.post(url).json(&body).send().await {
        Err(error) if error.is_connect() => ("none".to_owned(), None, Outcome::Refused),
        Err(_) => ("cut off".to_owned(), None, Outcome::CutOff),
        Ok(answer) => {
            let status = answer.status().as_u16();
            let retry_after = answer.headers().contains_key("retry-after");
            let body: Option<Value> =
                answer.text().await.ok().and_then(|text| serde_json::from_str(&text).ok());
            let kind = body.as_ref().and_then(|body| body["type"].as_str()).unwrap_or_default();
            let kind = kind.trim_start_matches("/problems/");
            let told = format!("{status} {kind}");
            let id = body.as_ref().and_then(|body| body["id"].as_i64());
            match (status, id) {
                (201, Some(id)) => (told, Some(id), Outcome::Accepted),
                // Its head said that it is there; the connection ended in its body.
                (201, None) => (told, None, Outcome::CutOff),
                (503, _) if retry_after && kind == "outcome-unknown" => {
                    (told, None, Outcome::CutOff)
                }
                (503, _) if retry_after => (told, None, Outcome::Refused),
                _ => (told, None, Outcome::Wrong),
            }
        }
    };
    let mut seen = seen.lock();
    match outcome {
        Outcome::Accepted => {
            seen.log.accepted.extend(accepted.map(|id| Accepted {
                id,
                product_id: product,
                quantity: 1,
            }));
        }
        Outcome::CutOff => seen.log.cut_off += 1,
        Outcome::Wrong if seen.wrong.len() < 5 => {
            let what = format!("{told}, after {:?}", begun.elapsed());
            seen.wrong.push(what);
        }
        Outcome::Wrong | Outcome::Refused => {}
    }
    *seen.answers.entry(told.trim().to_owned()).or_default() += 1;
    seen.events.push(Event { at: Instant::now(), took: begun.elapsed(), product, outcome });
}
