//! Adds up the counts of all replicas in Redis.

use std::sync::Arc;

use holdfast_redis::SharedConnection;
use parking_lot::Mutex;
use redis::RedisResult;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{ThrottleSettings, counts::Counts};

/// The hash tag of all keys in a Redis Cluster, so that one server of it has them all.
pub(crate) const TAG: &str = "rates";

/// How long the counts of a second stay in Redis: longer than clocks differ.
const KEPT_SECONDS: u64 = 5;

/// Sends this replica's counts to Redis and reads the totals, until the runtime ends. `tagged`: whether keys have the hash tag.
pub(crate) async fn run(
    counts: Arc<Mutex<Counts>>,
    connection: SharedConnection,
    tagged: bool,
    settings: ThrottleSettings,
) {
    let mut times = interval(settings.exchange);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        times.tick().await;
        let (second, unsent) = counts.lock().unsent();
        if unsent.is_empty() {
            continue;
        }
        let mut pipe = redis::pipe();
        for (caller, count) in &unsent {
            let key = if tagged {
                format!("holdfast:{{{TAG}}}:{second}:{caller}")
            } else {
                format!("holdfast:rate:{second}:{caller}")
            };
            pipe.cmd("INCRBY").arg(&key).arg(*count);
            pipe.cmd("EXPIRE").arg(&key).arg(KEPT_SECONDS).ignore();
        }
        // A key that another program has written to must affect only its own caller.
        pipe.ignore_errors();
        let mut connection = connection.clone();
        let exchange = async {
            let all: Vec<RedisResult<u64>> = pipe.query_async(&mut connection).await?;
            // If all commands are refused, the keys are not the cause.
            match all.first() {
                Some(Err(error)) if all.iter().all(RedisResult::is_err) => Err(error.clone()),
                _ => Ok(all),
            }
        };
        let answer = timeout(settings.op_timeout, exchange).await;
        match answer {
            Ok(Ok(all)) => {
                let mut counts = counts.lock();
                for ((caller, sent), all) in unsent.iter().zip(all) {
                    if let Ok(all) = all {
                        counts.sent(second, caller, *sent, all);
                    }
                }
                failing = false;
            }
            // Logged once, not ten times a second.
            failed if !failing => {
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer in time".to_owned(),
                };
                tracing::warn!(
                    error,
                    "redis failed; each replica enforces the rate limits separately"
                );
                failing = true;
            }
            _ => {}
        }
    }
}
