//! Publishes accepted orders to the queue after their commit, in a task of its own.
//!
//! Publishing may fail or lag without harm: the order's row is the outbox, and the workers' sweep publishes pending
//! orders again.

use std::sync::Arc;

use holdfast_domain::OrderId;
use holdfast_queue::{Job, Publisher};
use holdfast_telemetry::Chain;
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::metrics::AdmissionMetrics;

/// The most jobs that wait to be published; more are left to the sweep.
const WAITING_MAX: usize = 65_536;
/// The most jobs in a round trip.
const BATCH_MAX: usize = 512;

/// Passes orders to the publishing task.
pub(crate) struct Outbox {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<AdmissionMetrics>,
}

/// Starts the publishing task.
pub(crate) fn start(publisher: Publisher, metrics: Arc<AdmissionMetrics>) -> Outbox {
    let (jobs, mut waiting) = mpsc::channel(WAITING_MAX);
    let counted = Arc::clone(&metrics);
    let task = tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut failing = false;
        while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
            match publisher.publish_many(&batch).await {
                Ok(()) => {
                    counted.published.inc_by(batch.len() as u64);
                    if std::mem::take(&mut failing) {
                        tracing::info!("orders are published again");
                    }
                }
                Err(error) => {
                    counted.unpublished.inc_by(batch.len() as u64);
                    let error = Chain(&error);
                    tracing::debug!(%error, jobs = batch.len(), "orders are left to the sweep");
                    // Logged once, not for each batch.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "orders cannot be published; the workers' sweep finds them");
                    }
                }
            }
            batch.clear();
        }
    });
    Outbox { jobs: Mutex::new(Some(jobs)), task: Mutex::new(Some(task)), metrics }
}

impl Outbox {
    /// Passes the orders of a committed batch to the task. Never waits.
    pub fn send(&self, orders: impl Iterator<Item = (OrderId, Option<String>)>) {
        let jobs = self.jobs.lock();
        for (id, trace_context) in orders {
            let job = Job { order_id: id.0, trace_context };
            let sent = jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
            if !sent {
                self.metrics.unpublished.inc();
            }
        }
    }

    /// Publishes the waiting orders, and then stops the task.
    pub async fn close(&self) {
        self.jobs.lock().take();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(error = %Chain(&error), "the publishing task failed");
        }
    }
}
