//! Periodic jobs. Each round has a time limit, so that no job delays another.

use std::{convert::Infallible, error::Error, time::Duration};

use tokio::time::{sleep, timeout};

use crate::failures::Failures;

/// The time limit of a round.
const ROUND_LIMIT: Duration = Duration::from_secs(30);
/// The pause after a failed round.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum JobError<E> {
    #[error("it took longer than {}s", ROUND_LIMIT.as_secs())]
    Limit,
    #[error(transparent)]
    Round(E),
}

/// Runs rounds until it is dropped. A round returns the pause until the next one.
pub async fn repeat<E: Error + 'static, F: Future<Output = Result<Duration, E>>>(
    step: &'static str,
    subject: &'static str,
    failures: Failures,
    mut round: impl FnMut() -> F,
) -> Infallible {
    loop {
        let outcome = match timeout(ROUND_LIMIT, round()).await {
            Ok(outcome) => outcome.map_err(JobError::Round),
            Err(_elapsed) => Err(JobError::Limit),
        };
        sleep(failures.heard(step, subject, outcome).unwrap_or(RETRY_PAUSE)).await;
    }
}
