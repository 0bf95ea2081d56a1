//! The metrics of the webhook.

use http::StatusCode;

holdfast_telemetry::metrics! {
    /// The metrics of the webhook.
    pub(crate) struct WebhookMetrics {
        /// 1 while orders wait because none succeeds or the receiver asked for a pause; otherwise 0.
        pub paused: IntGauge = "holdfast_webhook_paused",
        /// Requests to the receiver, by the class of its answer.
        "holdfast_webhook_answers_total" by answer {
            success: IntCounter = "2xx",
            redirection: IntCounter = "3xx",
            client_error: IntCounter = "4xx",
            server_error: IntCounter = "5xx",
            none: IntCounter = "none",
        },
    }
}

impl WebhookMetrics {
    /// Counts an answer, or that there was none.
    pub fn answered(&self, status: Option<StatusCode>) {
        match status.map(|status| status.as_u16() / 100) {
            Some(2) => &self.success,
            Some(3) => &self.redirection,
            Some(4) => &self.client_error,
            Some(_) => &self.server_error,
            None => &self.none,
        }
        .inc();
    }
}
