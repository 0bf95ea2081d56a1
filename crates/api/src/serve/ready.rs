//! Readiness. A server becomes ready when the database has the schema and the API keys have been read. After that, it is
//! ready as long as it can accept orders.
//!
//! A short outage of the database does not change readiness: a restart or a failover takes seconds, all replicas would
//! notice it at the same time, and 503 with `Retry-After` is better than no server. During a longer outage, `/readyz`
//! fails until the database answers again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_store::{DatabaseState, SchemaError, Store};
use holdfast_telemetry::{Chain, Readiness};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::access::Guard;

/// The time between two checks of a database without the schema.
const SCHEMA_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two checks of the database, and the time limit of a check.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Updates `readiness` until it is dropped. The server is not ready after `unready_after` without an answer of the
/// database, unless that is zero.
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
                    tracing::info!("ready: the database accepts writes again");
                    readiness.ready();
                }
            }
            // The database answers that it is read-only, so no order can be accepted. Do not wait.
            Ok(DatabaseState::ReadOnly) => {
                if readiness.get().is_ok() {
                    tracing::warn!("not ready: the database accepts no writes");
                }
                readiness.not_ready("the database accepts no writes");
            }
            Err(error) => {
                let since = *away.get_or_insert(asked);
                if since.elapsed() >= unready_after && readiness.get().is_ok() {
                    tracing::warn!(error = %Chain(&error), "not ready: the database does not answer");
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
