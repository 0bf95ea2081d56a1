//! Flash sale: shows whether orders wait for the lane, the lock, the database or the workers.

use crate::{
    grafana::{Dashboard, Panel, PanelRow, Unit},
    promql::{largest, mean, quantile, rate, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "flash-sale",
        title: "Flash sale",
        description: "How many orders arrive, how fast they are answered, and where they wait.",
        rows: vec![
            PanelRow { title: "Now", panels: now() },
            PanelRow { title: "Where orders wait", panels: waits() },
            PanelRow { title: "Orders", panels: orders() },
            PanelRow { title: "Behind the orders", panels: behind() },
        ],
    }
}

fn now() -> Vec<Panel> {
    let orders = r#"route="/orders",method="POST""#;
    vec![
        Panel::number("Accepted", Unit::PerSecond, "Committed orders per second.")
            .query(rate("holdfast_orders_accepted_total", "", ""), "accepted"),
        Panel::number(
            "Answer, p99",
            Unit::Seconds,
            "99th percentile of the time to the answer of an order, including refusals. Objective: 250 ms.",
        )
        .query(quantile(0.99, "holdfast_http_request_seconds", orders, ""), "p99")
        .limits(0.1, 0.25),
        Panel::number(
            "Server errors",
            Unit::Ratio,
            "Share of the orders that were answered with 5xx, because of overload or a database failure. Sold out does not count.",
        )
        .query(
            format!(
                "({} or vector(0)) / ({} > 0)",
                rate("holdfast_http_requests_total", &format!(r#"{orders},status="5xx""#), ""),
                rate("holdfast_http_requests_total", orders, ""),
            ),
            "5xx",
        )
        .limits(0.001, 0.01),
        Panel::number(
            "Hot product's stock",
            Unit::Count,
            "Units left of the product that sold most in the last batch. At 0, it is sold out, and refusals are expected.",
        )
        .query(
            format!(
                "min({})",
                crate::promql::select("holdfast_hot_product_stock_units", "")
            ),
            "left",
        ),
        Panel::number(
            "Queue",
            Unit::Count,
            "Orders that are accepted and not yet fulfilled: waiting, in flight, or waiting for another attempt.",
        )
        .query(
            format!("sum({})", largest("holdfast_queue_depth_orders", "", "release, state")),
            "orders",
        )
        .limits(10_000.0, 100_000.0),
        Panel::number(
            "Workers",
            Unit::Count,
            "Running workers.",
        )
        .query(format!("count({})", crate::promql::select("holdfast_concurrency_limit_orders", "")), "running")
        .floors(1.0, 1.0),
    ]
}

fn waits() -> Vec<Panel> {
    vec![
        Panel::decades(
            "Waits of an order, p99",
            Unit::Seconds,
            "The highest line is where orders wait. Lane: more orders arrive than batches take. Lock: another session has locked the row. \
             Connection: the pool is too small, or statements are slow. Commit: the database's disk. Queue: too few workers.",
        )
        .width(16)
        .query(quantile(0.99, "holdfast_lane_wait_seconds", "", ""), "1 lane")
        .query(
            quantile(0.99, "holdfast_db_connection_wait_seconds", r#"pool="admission""#, ""),
            "2 connection",
        )
        .query(quantile(0.99, "holdfast_lock_wait_seconds", "", "lane"), "3 lock, {{lane}} lane")
        .query(quantile(0.99, "holdfast_commit_seconds", "", ""), "4 commit")
        .query(largest("holdfast_queue_oldest_age_seconds", "", ""), "5 queue (age of the oldest)")
        .with_traces(),
        Panel::lines(
            "Lock wait",
            Unit::Seconds,
            "How long a batch waits for its row locks, including the round trip. The shared lane skips locked rows. A product has its own lane only while another session has locked its row; that lane waits for it.",
        )
        .query(quantile(0.5, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, median")
        .query(quantile(0.99, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, p99")
        .limits(0.1, 0.5)
        .with_traces(),
        Panel::lines(
            "Lane wait",
            Unit::Seconds,
            "How long an order waits in its lane until its batch begins.",
        )
        .query(quantile(0.5, "holdfast_lane_wait_seconds", "", ""), "median")
        .query(quantile(0.99, "holdfast_lane_wait_seconds", "", ""), "p99")
        .limits(0.1, 0.25),
        Panel::lines(
            "Waiting in the lanes",
            Unit::Count,
            "Orders that wait for their batch, and products with their own lane because another session has locked their row.",
        )
        .query(total("holdfast_lane_depth_orders", "", "pod"), "orders {{pod}}")
        .query(total("holdfast_own_lanes", "", ""), "own lanes"),
        Panel::lines(
            "Batch size",
            Unit::Count,
            "Orders that share one lock and one commit. Batches grow with the load; large ones are efficient.",
        )
        .query(mean("holdfast_batch_size_orders"), "mean")
        .query(quantile(0.99, "holdfast_batch_size_orders", "", ""), "p99"),
    ]
}

fn orders() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Orders by outcome",
            Unit::PerSecond,
            "Accepted, repeated (same Idempotency-Key), and refused by reason. not_enough: sold out. full, lock_timeout, unavailable: overload.",
        )
        .width(12)
        .query(rate("holdfast_orders_accepted_total", "", ""), "accepted")
        .query(rate("holdfast_requests_repeated_total", "", ""), "repeated")
        .query(rate("holdfast_orders_refused_total", "", "reason"), "{{reason}}"),
        Panel::lines(
            "Locks held, and commits",
            Unit::Seconds,
            "How long a batch keeps its rows locked, and how long the commit takes as part of that.",
        )
        .width(12)
        .query(quantile(0.99, "holdfast_lock_held_seconds", "", ""), "held, p99")
        .query(quantile(0.99, "holdfast_commit_seconds", "", ""), "commit, p99")
        .limits(0.1, 0.5),
    ]
}

fn behind() -> Vec<Panel> {
    let hpa = |metric: &str| {
        format!(
            "max({metric}{{namespace=~\"$namespace\",horizontalpodautoscaler=~\".*holdfast.*worker.*\"}})"
        )
    };
    vec![
        Panel::areas(
            "Queue depth",
            Unit::Count,
            "Accepted orders that wait for a worker, that are in flight, or that wait for another attempt. A gap means unknown.",
        )
        .query(largest("holdfast_queue_depth_orders", "", "state"), "{{state}}"),
        Panel::lines(
            "Workers wanted and running",
            Unit::Count,
            "The replicas that the HPA wants and its maximum (from kube-state-metrics), and the running workers.",
        )
        .query(hpa("kube_horizontalpodautoscaler_status_desired_replicas"), "wanted")
        .query(hpa("kube_horizontalpodautoscaler_spec_max_replicas"), "at most")
        .query(format!("count({})", crate::promql::select("holdfast_concurrency_limit_orders", "")), "running"),
        Panel::lines(
            "Sales by phase",
            Unit::Count,
            "FlashSales that the operator manages, as counted by its leader.",
        )
        .query(largest("holdfast_operator_sales", "", "phase"), "{{phase}}"),
        Panel::lines(
            "Accepted, published, fulfilled",
            Unit::PerSecond,
            "Accepted above published: Redis does not accept the orders. Published above fulfilled: there are too few workers.",
        )
        .query(rate("holdfast_orders_accepted_total", "", ""), "accepted")
        .query(rate("holdfast_orders_published_total", "", ""), "published")
        .query(
            rate("holdfast_fulfilment_outcomes_total", r#"outcome="completed""#, ""),
            "fulfilled",
        ),
    ]
}
