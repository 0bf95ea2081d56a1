//! The background task that brings Redis back: see [`crate::health`].

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep;

use crate::health::Phase;
use crate::link::{Link, Unavailable};

/// Runs until dropped.
pub(crate) async fn keep(link: Arc<Link>) {
    // Nobody can have missed a message of ours before the first connection, so a Redis that is
    // there at the start is used at once.
    let mut outage = None;
    link.identified().await;
    loop {
        match restore(&link, outage.is_some()).await {
            Ok(()) => {
                if let Some(since) = outage.take() {
                    let seconds = Instant::now().duration_since(since).as_secs_f32();
                    tracing::info!(seconds, "redis is back and used again");
                }
                while link.is_up() {
                    link.failed.notified().await;
                }
                outage = Some(Instant::now());
            }
            Err(Unavailable) => {
                outage.get_or_insert_with(Instant::now);
            }
        }
        sleep(link.settings.retry_interval).await;
    }
}

async fn restore(link: &Link, quarantine: bool) -> Result<(), Unavailable> {
    link.probe().await?;
    while !link.repay().await? {}
    if quarantine {
        let quarantine = sleep(link.settings.quarantine);
        tokio::pin!(quarantine);
        loop {
            tokio::select! {
                () = &mut quarantine => break,
                () = link.failed.notified() => {
                    if link.health.phase() == Phase::Down {
                        return Err(Unavailable);
                    }
                }
            }
        }
    }
    link.health.up().then_some(()).ok_or(Unavailable)
}
