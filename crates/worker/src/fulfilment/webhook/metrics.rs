//! What an operator sees of the webhook.

use http::StatusCode;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// The metrics of the webhook.
pub(super) struct WebhookMetrics {
    /// 1 while no orders are sent, because the receiver does not take them.
    pub paused: IntGauge,
    answers: IntCounterVec,
}

impl WebhookMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let paused = IntGauge::new(
            "holdfast_webhook_paused",
            "1 while no orders are sent, because the receiver does not take them.",
        )?;
        let answers = IntCounterVec::new(
            Opts::new("holdfast_webhook_answers_total", "Answers of the receiver, by their class."),
            &["answer"],
        )?;
        registry.register(Box::new(paused.clone()))?;
        registry.register(Box::new(answers.clone()))?;
        for answer in ["2xx", "3xx", "4xx", "5xx", "none"] {
            answers.with_label_values(&[answer]);
        }
        Ok(Self { paused, answers })
    }

    /// Counts an answer, or that there was none.
    pub fn answered(&self, status: Option<StatusCode>) {
        let answer = match status.map(|status| status.as_u16() / 100) {
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(_) => "5xx",
            None => "none",
        };
        self.answers.with_label_values(&[answer]).inc();
    }
}
