//! Workers and queue: from the queue to an order's end, and the numbers that the HPA is given.

use crate::{
    grafana::{Dashboard, Panel, Row, Unit},
    promql::{largest, quantile, rate, select, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "workers",
        title: "Workers and queue",
        description: "From the queue to an order's end, and what the HPA is told about it.",
        rows: vec![
            Row { title: "Queue", panels: queue() },
            Row { title: "Fulfilment", panels: fulfilment() },
            Row { title: "What breaks, and is mended", panels: mended() },
            Row { title: "Operator on Kubernetes", panels: operator() },
        ],
    }
}

fn queue() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Depth",
            Unit::Count,
            "waiting: not yet delivered; in_hand: delivered and not done; later: set aside for another try. A gap: not known.",
        )
        .query(largest("holdfast_queue_depth_orders", "", "state"), "{{state}}"),
        Panel::lines(
            "Age of the next order",
            Unit::Seconds,
            "How long the order that will be delivered next has waited. It grows when the workers are too few, or stand still.",
        )
        .query(largest("holdfast_queue_oldest_age_seconds", "", ""), "age")
        .limits(10.0, 60.0),
        Panel::lines(
            "Dead letters",
            Unit::Count,
            "Orders that failed for good and wait for an operator, who replays or discards them. Counted up to 10,000.",
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
            "Ends of tries: completed; failed for good; retried later; postponed, because the receiver is down; handed_back at a worker's end.",
        )
        .query(rate("holdfast_fulfilment_outcomes_total", "", "outcome"), "{{outcome}}"),
        Panel::decades("Time of a fulfilment", Unit::Seconds, "What fulfilling one order takes.")
            .query(quantile(0.5, "holdfast_fulfilment_seconds", "", ""), "half")
            .query(quantile(0.99, "holdfast_fulfilment_seconds", "", ""), "99 of 100")
            .with_traces(),
        Panel::lines(
            "Hands in use",
            Unit::Ratio,
            "Orders in hand, as a part of what a worker may have in hand. At 100 % more workers, or more hands, make it faster.",
        )
        .query(
            format!("{} / {}", total("holdfast_in_hand_orders", "", "pod"), total("holdfast_hands_orders", "", "pod")),
            "hands {{pod}}",
        )
        .limits(0.8, 0.95),
        Panel::lines(
            "Claims",
            Unit::PerSecond,
            "Orders that were claimed, and messages whose order was done already or in other hands: repeats, which do no harm.",
        )
        .query(rate("holdfast_fulfilment_claimed_total", "", ""), "claimed")
        .query(rate("holdfast_fulfilment_unclaimed_total", "", ""), "repeats"),
        Panel::areas(
            "Webhook's answers",
            Unit::PerSecond,
            "What the receiver of the orders answers; none is no answer in time. Only where orders are fulfilled by webhook.",
        )
        .query(rate("holdfast_webhook_answers_total", "", "answer"), "{{answer}}"),
        Panel::lines(
            "Webhook paused",
            Unit::Count,
            "Workers that send nothing at the moment, because the receiver does not take orders. They try again by themselves.",
        )
        .query(total("holdfast_webhook_paused", "", ""), "workers")
        .limits(1.0, 2.0),
    ]
}

fn mended() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Taken over",
            Unit::PerSecond,
            "Messages that a worker did not acknowledge, orders whose lease had run out, and outcomes that came too late to be written. Other than at a worker's crash these are 0.",
        )
        .query(rate("holdfast_queue_taken_over_total", "", ""), "messages")
        .query(rate("holdfast_fulfilment_claims_taken_over_total", "", ""), "claims")
        .query(rate("holdfast_fulfilment_fenced_total", "", ""), "too late"),
        Panel::lines(
            "Found by the sweep",
            Unit::PerSecond,
            "Orders that were pending and in nobody's queue, and are published again. For long: publishing is broken.",
        )
        .query(rate("holdfast_sweep_found_total", "", ""), "orders")
        .limits(0.1, 10.0),
        Panel::lines(
            "Maintenance",
            Unit::Seconds,
            "Since when no worker has succeeded with a task of maintenance: sweep, retries that are due, the numbers above. Each runs every one to five seconds by default.",
        )
        .query(
            format!("time() - {}", largest("holdfast_maintenance_last_success_timestamp_seconds", "", "task")),
            "{{task}}",
        )
        .limits(30.0, 120.0),
        Panel::lines(
            "Maintenance failures",
            Unit::PerSecond,
            "Runs of a task that failed because PostgreSQL or Redis did not answer. The other tasks go on.",
        )
        .query(rate("holdfast_maintenance_failures_total", "", "task"), "{{task}}")
        .limits(0.1, 1.0),
    ]
}

fn operator() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Depth that the HPA was told",
            Unit::Count,
            "A gap: the number was refused, because it was not known; the HPA then stays as it is.",
        )
        .query(
            largest("holdfast_external_metrics_queue_depth_orders", "", "exported_namespace, namespace, queue"),
            "{{namespace}} {{queue}}",
        ),
        Panel::lines("Questions answered", Unit::RequestsPerSecond, "By metric and HTTP status.")
            .query(rate("holdfast_external_metrics_requests_total", "", "metric, code"), "{{metric}} {{code}}"),
        Panel::lines("Time of an answer", Unit::Seconds, "The API server waits for it, and the HPA with it.")
            .query(quantile(0.99, "holdfast_external_metrics_seconds", "", ""), "99 of 100")
            .limits(0.5, 1.0),
        Panel::lines(
            "Numbers refused",
            Unit::PerSecond,
            "By reason. A number that is not known is never told as 0.",
        )
        .query(rate("holdfast_external_metrics_refused_total", "", "reason"), "{{reason}}")
        .limits(0.01, 1.0),
        Panel::lines(
            "Since the last number",
            Unit::Seconds,
            "How long ago the HPA was told a depth; it asks every 15 s.",
        )
        .query(
            format!("time() - {}", largest("holdfast_external_metrics_last_served_timestamp_seconds", "", "")),
            "since",
        )
        .limits(60.0, 300.0),
        Panel::lines(
            "Certificates",
            Unit::Seconds,
            "Until a certificate in use ends. It is renewed by itself when a third is left.",
        )
        .query(
            format!("min by (certificate) ({}) - time()", select("holdfast_operator_certificate_expiry_seconds", "")),
            "{{certificate}}",
        )
        .floors(1_209_600.0, 604_800.0),
        Panel::lines(
            "Verdicts",
            Unit::PerSecond,
            "Whether a caller may have what they ask for: by the API server's word, or remembered (cached).",
        )
        .query(rate("holdfast_operator_access_reviews_total", "", "verdict"), "{{verdict}}"),
        Panel::lines(
            "Steps that failed",
            Unit::PerSecond,
            "Steps of the operator's loop that failed, and are tried again.",
        )
        .query(rate("holdfast_operator_sync_failures_total", "", "step"), "{{step}}")
        .limits(0.01, 1.0),
        Panel::lines(
            "Leader and queues",
            Unit::Count,
            "Replicas that write (one, or none while it changes), and the queues that are listed.",
        )
        .query(total("holdfast_operator_leader", "", ""), "leaders")
        .query(largest("holdfast_operator_queues", "", ""), "queues"),
    ]
}
