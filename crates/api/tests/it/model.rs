//! Random histories of concurrent requests on two replicas, compared with a plain model in memory: orders (of several
//! lines, from stock and from holds, at expected prices), cancellations, holds, restocks, new prices, claims and
//! deletions, with a product in a flash sale that has a limit per customer.
//!
//! In each history, four clients use products that no other history uses, and several histories run at a time. The
//! answers must be explained by *some* order of the requests, one at a time, that respects the times at which they were
//! sent and answered (linearizability, Herlihy and Wing 1990). The database must then have the state of the model.
//!
//! `HISTORIES` sets the number of histories. `HISTORY_SEED` generates the same ones again, but their timing depends on
//! the machine.

mod history;
mod linear;
mod request;
mod shop;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use holdfast_sandbox::{Process, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::{
    client::Client,
    server::{self, Server},
};

/// The number of histories that run at the same time, so that batches contain requests of several.
const PLAYERS: u64 = 4;

/// Two replicas with one database and one Redis.
pub struct ModelReplicas {
    pub apis: [Client; 2],
    pub store: Store,
    _processes: (Server, Process),
}

async fn replicas() -> ModelReplicas {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let url = server::database().await;
    let (redis_url, first) = (redis.url(), Server::on(&url, redis, &[]).await);
    let second = server::spawn(&url, &redis_url, &[]).await;
    let [address, ..] = server::addresses(&second).await;
    let apis = [first.api.clone(), Client::new(&address)];
    let store = Store::connect(&StoreSettings::new(&url).unwrap());
    first.until("the second is ready", async || apis[1].get("/readyz").await.status == 200).await;
    ModelReplicas { apis, store, _processes: (first, second) }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_history_is_linearizable() {
    let replicas = Arc::new(replicas().await);
    let histories = number("HISTORIES", 2000);
    let seed = number("HISTORY_SEED", rand::random());
    let counts: Arc<[AtomicU64; request::OUTCOMES.len()]> = Arc::default();
    let players: Vec<_> = (0..PLAYERS)
        .map(|player| {
            let (replicas, counts) = (Arc::clone(&replicas), Arc::clone(&counts));
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                let config = Config {
                    cases: u32::try_from(histories.div_ceil(PLAYERS)).unwrap(),
                    failure_persistence: None,
                    max_shrink_iters: 64,
                    ..Config::default()
                };
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&seed.to_le_bytes());
                bytes[8] = u8::try_from(player).unwrap();
                let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
                let mut runner = TestRunner::new_with_rng(config, rng);
                let histories = history::histories();
                let outcome = runner.run(&histories, |history| {
                    let played = runtime.block_on(history::play(&replicas, &history));
                    let model = linear::explain(&played).map_err(TestCaseError::fail)?;
                    for event in &played.events {
                        counts[event.answer.outcome()].fetch_add(1, Ordering::Relaxed);
                    }
                    let real = runtime.block_on(history::shop_as_it_is(&replicas, &played));
                    if real == model.contents() {
                        Ok(())
                    } else {
                        Err(TestCaseError::fail(format!(
                            "{real:#?}\nis not\n{:#?}",
                            model.contents()
                        )))
                    }
                });
                outcome.map_err(|error| format!("HISTORY_SEED={seed}: {error}"))
            })
        })
        .collect();
    let outcomes: Vec<_> = futures::future::join_all(players).await;
    for outcome in outcomes {
        outcome.unwrap().unwrap_or_else(|error| panic!("{error}"));
    }
    // A run with only one kind of answer would prove nothing about the others.
    let counts: Vec<_> = request::OUTCOMES
        .iter()
        .zip(counts.iter())
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
        .collect();
    println!("{counts:?}");
    for (name, count) in counts {
        assert!(count > 0 || histories < 1000, "no answer was ever: {name}");
    }
}
