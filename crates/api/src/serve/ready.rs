//! When a server wants requests: from the first time that the database has the schema and it is known who is
//! who, and from then on as long as it can take orders.
//!
//! A database that is away for a moment changes nothing: a restart or a failover takes seconds, every replica would
//! notice at the same time, and a clean 503 with `Retry-After` is better than no server at all. One that
//! stays away does: `/readyz` says so, and says yes again with its first answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_store::{DatabaseState, SchemaError, Store};
use holdfast_telemetry::{Chain, Readiness};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::access::Guard;

/// How often a database without the schema is looked at again.
const SCHEMA_INTERVAL: Duration = Duration::from_millis(500);
/// How often a database is asked whether it is there, and how long its answer may take.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Says in `readiness` how it stands, until it is dropped. After `unready_after` without an answer of the
/// database the server wants no requests; never if that is zero.
pub async fn follow(
    store: Store,
    readiness: Readiness,
    guard: Arc<Guard>,
    unready_after: Duration,
) {
    until_schema(&store, &readiness).await;
    readiness.not_ready("the API keys have not been read yet");
    guard.ready().await;
    tracing::info!("ready");
    readiness.ready();
    if unready_after.is_zero() {
        return;
    }
    let mut probe = store.probe();
    let mut away: Option<Instant> = None;
    let mut rounds = interval(PROBE_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let asked = Instant::now();
        match probe.ask(PROBE_LIMIT).await {
            Ok(DatabaseState::Whole) => {
                away = None;
                if readiness.get().is_err() {
                    tracing::info!("ready: the database takes writes again");
                    readiness.ready();
                }
            }
            // It is there, and says for certain that no order can be taken: there is nothing to wait for.
            Ok(DatabaseState::ReadOnly) => {
                if readiness.get().is_ok() {
                    tracing::warn!("not ready: the database takes no writes");
                }
                readiness.not_ready("the database takes no writes");
            }
            Err(error) => {
                let since = *away.get_or_insert(asked);
                if since.elapsed() >= unready_after && readiness.get().is_ok() {
                    tracing::warn!(error = %Chain(&error), "not ready: the database stays away");
                    readiness.not_ready("the database does not answer");
                }
            }
        }
    }
}

async fn until_schema(store: &Store, readiness: &Readiness) {
    let mut told = false;
    while let Err(error) = store.check_schema().await {
        let reason = match &error {
            SchemaError::Behind { .. } => "the database's schema is not up to date",
            SchemaError::Store(_) => "the database has not answered yet",
        };
        readiness.not_ready(reason);
        if !told {
            tracing::warn!(error = %Chain(&error), "not ready yet");
            told = true;
        }
        sleep(SCHEMA_INTERVAL).await;
    }
}
