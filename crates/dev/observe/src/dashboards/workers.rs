//! Workers and queue: the fulfilment of orders, and the numbers that the HPA gets.

use crate::{
    grafana::{Dashboard, Panel, PanelRow, Unit},
    promql::{largest, quantile, rate, select, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "workers",
        title: "Workers and queue",
        description: "The fulfilment of orders, and the numbers that the HPA gets.",
        rows: vec![
            PanelRow { title: "Queue", panels: queue() },
            PanelRow { title: "Fulfilment", panels: fulfilment() },
            PanelRow { title: "Recovery", panels: recovery() },
            PanelRow { title: "Operator on Kubernetes", panels: operator() },
        ],
    }
}

fn queue() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Depth",
            Unit::Count,
            "waiting: not yet delivered. in_flight: delivered and not acknowledged. later: waiting for another attempt. A gap means unknown.",
        )
        .query(largest("holdfast_queue_depth_orders", "", "state"), "{{state}}"),
        Panel::lines(
            "Age of the oldest order",
            Unit::Seconds,
            "How long the oldest order in the queue has waited. It grows if the workers are too few or not working.",
        )
        .query(largest("holdfast_queue_oldest_age_seconds", "", ""), "age")
        .limits(10.0, 60.0),
        Panel::lines(
            "Dead letters",
            Unit::Count,
            "Orders that failed for good and wait for an operator to replay or discard them, counted up to 10,000.",
        )
        .query(largest("holdfast_dead_letters_orders", "", ""), "orders")
        .limits(1.0, 100.0),
    ]
}

fn fulfilment() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Outcomes",
            Unit::PerSecond,
            "Attempts by outcome. completed. failed: for good. retried. postponed: the receiver is down. handed_back: the worker shut down.",
        )
        .query(rate("holdfast_fulfilment_outcomes_total", "", "outcome"), "{{outcome}}"),
        Panel::decades("Time of a fulfilment", Unit::Seconds, "Time of one attempt to fulfil an order.")
            .query(quantile(0.5, "holdfast_fulfilment_seconds", "", ""), "median")
            .query(quantile(0.99, "holdfast_fulfilment_seconds", "", ""), "p99")
            .with_traces(),
        Panel::lines(
            "Concurrency in use",
            Unit::Ratio,
            "Orders in flight, as a share of the concurrency limit. At 100 %, more workers or a higher limit help.",
        )
        .query(
            format!("{} / {}", total("holdfast_in_flight_orders", "", "pod"), total("holdfast_concurrency_limit_orders", "", "pod")),
            "in use {{pod}}",
        )
        .limits(0.8, 0.95),
        Panel::lines(
            "Claims",
            Unit::PerSecond,
            "Claimed orders, and messages whose order was finished or claimed by another worker (repeats).",
        )
        .query(rate("holdfast_fulfilment_claimed_total", "", ""), "claimed")
        .query(rate("holdfast_fulfilment_unclaimed_total", "", ""), "repeats"),
        Panel::areas(
            "Webhook answers",
            Unit::PerSecond,
            "Requests to the webhook receiver by the class of its answer. none: no answer in time.",
        )
        .query(rate("holdfast_webhook_answers_total", "", "answer"), "{{answer}}"),
        Panel::lines(
            "Webhook paused",
            Unit::Count,
            "Workers that pause because the receiver is down. They send single orders until one succeeds.",
        )
        .query(total("holdfast_webhook_paused", "", ""), "workers")
        .limits(1.0, 2.0),
    ]
}

fn recovery() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Taken over",
            Unit::PerSecond,
            "Messages that a worker did not acknowledge, orders whose lease had expired, and outcomes that came too late to be written. They are 0 unless a worker crashes.",
        )
        .query(rate("holdfast_queue_taken_over_total", "", ""), "messages")
        .query(rate("holdfast_fulfilment_claims_taken_over_total", "", ""), "claims")
        .query(rate("holdfast_fulfilment_fenced_total", "", ""), "too late"),
        Panel::lines(
            "Found by the sweep",
            Unit::PerSecond,
            "Pending orders that were not in the queue and are published again. If it lasts, publishing is broken.",
        )
        .query(rate("holdfast_sweep_found_total", "", ""), "orders")
        .limits(0.1, 10.0),
        Panel::lines(
            "Maintenance",
            Unit::Seconds,
            "Time since a worker last completed each maintenance task. By default, each runs every one to five seconds.",
        )
        .query(
            format!("time() - {}", largest("holdfast_maintenance_last_success_timestamp_seconds", "", "task")),
            "{{task}}",
        )
        .limits(30.0, 120.0),
        Panel::lines(
            "Maintenance failures",
            Unit::PerSecond,
            "Failed runs of a maintenance task, because PostgreSQL or Redis did not answer. The other tasks continue.",
        )
        .query(rate("holdfast_maintenance_failures_total", "", "task"), "{{task}}")
        .limits(0.1, 1.0),
    ]
}

fn operator() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Depth served to the HPA",
            Unit::Count,
            "A gap means that the number was unknown and refused. The HPA then keeps the number of workers.",
        )
        .query(
            largest("holdfast_external_metrics_queue_depth_orders", "", "exported_namespace, namespace, queue"),
            "{{namespace}} {{queue}}",
        ),
        Panel::lines("External metrics requests", Unit::RequestsPerSecond, "Answers of the external metrics API by metric and HTTP status.")
            .query(rate("holdfast_external_metrics_requests_total", "", "metric, code"), "{{metric}} {{code}}"),
        Panel::lines("Time of an answer", Unit::Seconds, "The HPA waits for it.")
            .query(quantile(0.99, "holdfast_external_metrics_seconds", "", ""), "p99")
            .limits(0.5, 1.0),
        Panel::lines(
            "Refused numbers",
            Unit::PerSecond,
            "By reason. An unknown number is refused, never answered with 0.",
        )
        .query(rate("holdfast_external_metrics_refused_total", "", "reason"), "{{reason}}")
        .limits(0.01, 1.0),
        Panel::lines(
            "Since the last number",
            Unit::Seconds,
            "Time since the HPA last received a depth. It requests one every 15 s.",
        )
        .query(
            format!("time() - {}", largest("holdfast_external_metrics_last_served_timestamp_seconds", "", "")),
            "since",
        )
        .limits(60.0, 300.0),
        Panel::lines(
            "Certificates",
            Unit::Seconds,
            "Time until a certificate expires. The operator renews its own when a third of the lifetime is left.",
        )
        .query(
            format!("min by (certificate) ({}) - time()", select("holdfast_operator_certificate_expiry_seconds", "")),
            "{{certificate}}",
        )
        .floors(1_209_600.0, 604_800.0),
        Panel::lines(
            "Access reviews",
            Unit::PerSecond,
            "Decisions about callers by the API server, or from the cache (cached).",
        )
        .query(rate("holdfast_operator_access_reviews_total", "", "verdict"), "{{verdict}}"),
        Panel::lines(
            "Failed steps",
            Unit::PerSecond,
            "Steps of the operator's control loop that failed and are tried again.",
        )
        .query(rate("holdfast_operator_sync_failures_total", "", "step"), "{{step}}")
        .limits(0.01, 1.0),
        Panel::lines(
            "Leader and queues",
            Unit::Count,
            "Leaders (one, or none during a change), and configured queues.",
        )
        .query(total("holdfast_operator_leader", "", ""), "leaders")
        .query(largest("holdfast_operator_queues", "", ""), "queues"),
    ]
}
