//! Flash sale: in ten seconds, whether orders wait for the lane, the lock, the database or the
//! workers.

use crate::{
    grafana::{Dashboard, Panel, Row, Unit},
    promql::{largest, mean, quantile, rate, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "flash-sale",
        title: "Flash sale",
        description: "The minute in which everybody wants the same item: how many orders, how fast, \
                      and where they wait.",
        rows: vec![
            Row { title: "Now", panels: now() },
            Row { title: "Where orders wait", panels: waits() },
            Row { title: "Orders", panels: orders() },
            Row { title: "Behind the orders", panels: behind() },
        ],
    }
}

fn now() -> Vec<Panel> {
    let orders = r#"route="/orders",method="POST""#;
    vec![
        Panel::number("Accepted", Unit::PerSecond, "Orders that were committed, in each second.")
            .query(rate("holdfast_orders_accepted_total", "", ""), "accepted"),
        Panel::number(
            "Answer, 99 of 100",
            Unit::Seconds,
            "99 of 100 orders are answered within this time, refusals included. Promised: 250 ms.",
        )
        .query(quantile(0.99, "holdfast_http_request_seconds", orders, ""), "p99")
        .limits(0.1, 0.25),
        Panel::number(
            "Errors of ours",
            Unit::Ratio,
            "Part of the orders that was answered with 5xx: overload, or a database that is not there. Sold out is none.",
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
            "Stock left of the product of which the last batch took the most. At 0 it is sold out, and refusals are what is right.",
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
            "Orders that are accepted and not yet fulfilled: waiting, in hand, set aside for another try.",
        )
        .query(
            format!("sum({})", largest("holdfast_queue_depth_orders", "", "release, state")),
            "orders",
        )
        .limits(10_000.0, 100_000.0),
        Panel::number(
            "Workers",
            Unit::Count,
            "Workers that are there. How many are wanted: see below, where an HPA wants some.",
        )
        .query(format!("count({})", crate::promql::select("holdfast_hands_orders", "")), "there")
        .floors(1.0, 1.0),
    ]
}

fn waits() -> Vec<Panel> {
    vec![
        Panel::decades(
            "Every wait of an order, 99 of 100",
            Unit::Seconds,
            "The highest line is where orders wait. Lane: more orders come than batches take. Lock: somebody else holds the row. \
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
        .query(largest("holdfast_queue_oldest_age_seconds", "", ""), "5 queue (age of the next)")
        .with_traces(),
        Panel::lines(
            "Lock wait",
            Unit::Seconds,
            "How long a batch waits for its row locks, the round trip to the database included. The shared lane skips what is locked; a product's own lane is there only while somebody else holds its row, and waits for it.",
        )
        .query(quantile(0.5, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, half")
        .query(quantile(0.99, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, 99 of 100")
        .limits(0.1, 0.5)
        .with_traces(),
        Panel::lines(
            "Lane wait",
            Unit::Seconds,
            "How long an order waits in its lane until its batch begins.",
        )
        .query(quantile(0.5, "holdfast_lane_wait_seconds", "", ""), "half")
        .query(quantile(0.99, "holdfast_lane_wait_seconds", "", ""), "99 of 100")
        .limits(0.1, 0.25),
        Panel::lines(
            "Waiting in the lanes",
            Unit::Count,
            "Orders that wait for their batch, and products that have a lane of their own because somebody else holds their row.",
        )
        .query(total("holdfast_lane_depth_orders", "", "pod"), "orders {{pod}}")
        .query(total("holdfast_own_lanes", "", ""), "lanes of their own"),
        Panel::lines(
            "Batch size",
            Unit::Count,
            "Orders that share one lock and one commit. Load makes batches: large ones are good.",
        )
        .query(mean("holdfast_batch_size_orders"), "mean")
        .query(quantile(0.99, "holdfast_batch_size_orders", "", ""), "99 of 100"),
    ]
}

fn orders() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Orders by outcome",
            Unit::PerSecond,
            "Accepted, repeats of one that was (known by their key), and refused by reason: not_enough is sold out; full, lock_timeout and unavailable are overload.",
        )
        .width(12)
        .query(rate("holdfast_orders_accepted_total", "", ""), "accepted")
        .query(rate("holdfast_requests_repeated_total", "", ""), "repeated")
        .query(rate("holdfast_orders_refused_total", "", "reason"), "{{reason}}"),
        Panel::lines(
            "Locks held, and commits",
            Unit::Seconds,
            "How long a batch holds its rows, and how long the commit in that takes. Nobody else gets the hot product's row meanwhile.",
        )
        .width(12)
        .query(quantile(0.99, "holdfast_lock_held_seconds", "", ""), "held, 99 of 100")
        .query(quantile(0.99, "holdfast_commit_seconds", "", ""), "commit, 99 of 100")
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
            "Accepted orders that wait for a worker, that workers have in hand, and that wait for another try. A gap: not known.",
        )
        .query(largest("holdfast_queue_depth_orders", "", "state"), "{{state}}"),
        Panel::lines(
            "Workers wanted and there",
            Unit::Count,
            "What the HPA wants (from kube-state-metrics; only where there is an HPA), what it may want at most, and the workers that are there.",
        )
        .query(hpa("kube_horizontalpodautoscaler_status_desired_replicas"), "wanted")
        .query(hpa("kube_horizontalpodautoscaler_spec_max_replicas"), "at most")
        .query(format!("count({})", crate::promql::select("holdfast_hands_orders", "")), "there"),
        Panel::lines(
            "Sales by phase",
            Unit::Count,
            "FlashSales that the operator looks after. The replica that writes counts them.",
        )
        .query(largest("holdfast_operator_sales", "", "phase"), "{{phase}}"),
        Panel::lines(
            "Accepted, published, fulfilled",
            Unit::PerSecond,
            "Where the lines part, orders gather: accepted above published means that Redis does not take them, published above fulfilled that there are too few workers.",
        )
        .query(rate("holdfast_orders_accepted_total", "", ""), "accepted")
        .query(rate("holdfast_orders_published_total", "", ""), "published")
        .query(
            rate("holdfast_fulfilment_outcomes_total", r#"outcome="completed""#, ""),
            "fulfilled",
        ),
    ]
}
