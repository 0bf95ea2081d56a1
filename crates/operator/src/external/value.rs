//! The values of a metric.
//!
//! All selected queues are read at the same time, while the caller waits. If one does not answer, the whole list is
//! refused, because the HPA would use the sum of the others and remove workers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use serde::Serialize;

use super::{
    metric::{GROUP, Metric, VERSION},
    refusal::ExternalRefusal,
};
use crate::{
    OperatorMetrics,
    queues::{QueueUnavailable, Queues, ServedQueue},
    selector::Selector,
};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueList {
    kind: &'static str,
    api_version: String,
    metadata: BTreeMap<String, String>,
    items: Vec<ExternalMetricValue>,
}

/// The value of one queue.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalMetricValue {
    metric_name: &'static str,
    metric_labels: BTreeMap<String, String>,
    timestamp: String,
    value: String,
}

/// The values of the selected queues of a namespace.
///
/// # Errors
/// No queue is selected, or one does not answer.
pub(super) async fn list(
    queues: &Queues,
    metric: Metric,
    namespace: &str,
    selector: &Selector,
    metrics: &OperatorMetrics,
) -> Result<ValueList, ExternalRefusal> {
    let picked = queues.picked(namespace, selector);
    if picked.is_empty() {
        return Err(ExternalRefusal::no_queue(metric, namespace));
    }
    let answers = join_all(picked.iter().map(|source| value(metric, source))).await;
    let timestamp = now();
    let mut refused = None;
    let mut items = Vec::with_capacity(picked.len());
    for (source, answer) in picked.iter().zip(answers) {
        if metric == Metric::Depth {
            let depth = answer.as_ref().ok().and_then(|depth| depth.parse().ok());
            metrics.depth(source, depth);
        }
        match answer {
            Ok(value) => items.push(ExternalMetricValue {
                metric_name: metric.as_str(),
                metric_labels: source.labels().clone(),
                timestamp: timestamp.clone(),
                value,
            }),
            Err(unknown) => {
                refused.get_or_insert_with(|| refusal(metric, source, &unknown, metrics));
            }
        }
    }
    match refused {
        Some(refusal) => Err(refusal),
        None => Ok(ValueList {
            kind: "ExternalMetricValueList",
            api_version: format!("{GROUP}/{VERSION}"),
            metadata: BTreeMap::new(),
            items,
        }),
    }
}

/// The current value, as a Quantity.
async fn value(metric: Metric, source: &ServedQueue) -> Result<String, QueueUnavailable> {
    match metric {
        Metric::Depth => source.depth().await.map(|depth| depth.to_string()),
        Metric::OldestAge => source.oldest_age().await.map(quantity),
    }
}

fn refusal(
    metric: Metric,
    source: &Arc<ServedQueue>,
    unknown: &QueueUnavailable,
    metrics: &OperatorMetrics,
) -> ExternalRefusal {
    metrics.refused.with_label_values(&[unknown.reason()]).inc();
    let error = holdfast_telemetry::Chain(unknown);
    tracing::warn!(
        %error,
        metric = metric.as_str(),
        namespace = source.namespace(),
        queue = source.label("queue"),
        release = source.label("release"),
        "a request was refused because the number is not known"
    );
    ExternalRefusal::unknown(metric, source, unknown)
}

/// A duration in seconds, as a Quantity with millisecond precision.
fn quantity(age: Duration) -> String {
    let age_ms = age.as_millis();
    if age_ms.is_multiple_of(1000) { (age_ms / 1000).to_string() } else { format!("{age_ms}m") }
}

/// A time in the format of Kubernetes, in whole seconds.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_quantity_in_seconds() {
        for (age_ms, text) in [(0, "0"), (2000, "2"), (1500, "1500m"), (1, "1m")] {
            assert_eq!(quantity(Duration::from_millis(age_ms)), text);
        }
    }

    #[test]
    fn a_time_has_whole_seconds() {
        let now = now();
        assert_eq!(now.len(), "2026-01-01T00:00:00Z".len(), "{now}");
        assert!(now.ends_with('Z'), "{now}");
    }
}
