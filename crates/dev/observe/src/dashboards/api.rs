//! API: requests, connections, holds, and the process.

use crate::{
    grafana::{Dashboard, Panel, Row, Unit},
    promql::{quantile, rate, select, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "api",
        title: "API",
        description: "Requests by route, and what is refused.",
        rows: vec![
            Row { title: "Requests", panels: requests() },
            Row { title: "Orders and holds", panels: demands() },
            Row { title: "Processes", panels: processes() },
        ],
    }
}

fn requests() -> Vec<Panel> {
    vec![
        Panel::areas("Requests by route", Unit::RequestsPerSecond, "Answered requests by route.")
            .query(rate("holdfast_http_requests_total", "", "route, method"), "{{method}} {{route}}"),
        Panel::areas(
            "Requests by status",
            Unit::RequestsPerSecond,
            "5xx are errors of ours or overload; 4xx are the caller's (409 sold out among them); gone did not wait for the answer.",
        )
        .query(rate("holdfast_http_requests_total", "", "status"), "{{status}}"),
        Panel::decades(
            "Time to the answer, 99 of 100",
            Unit::Seconds,
            "From a request's headers to its answer, by route.",
        )
        .query(
            quantile(0.99, "holdfast_http_request_seconds", "", "route, method"),
            "{{method}} {{route}}",
        )
        .limits(0.1, 0.25)
        .with_traces(),
        Panel::lines("In flight", Unit::Count, "Requests that are being answered.")
            .query(total("holdfast_http_requests_in_flight", "", "pod"), "requests {{pod}}"),
        Panel::lines("Connections", Unit::Count, "Connections that are open on the public port.")
            .query(total("holdfast_http_connections", "", "pod"), "connections {{pod}}"),
        Panel::lines(
            "Connections refused",
            Unit::PerSecond,
            "Connections that were answered with 503 because too many were open.",
        )
        .query(rate("holdfast_http_connections_refused_total", "", ""), "refused")
        .limits(0.1, 10.0),
    ]
}

fn demands() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Refused, by reason",
            Unit::PerSecond,
            "not_enough is sold out; full, lock_timeout, unavailable and shutting_down come with Retry-After; internal is an error of ours, and in the log.",
        )
        .query(rate("holdfast_orders_refused_total", "", "reason"), "{{reason}}"),
        Panel::lines(
            "Cancelled and abandoned",
            Unit::PerSecond,
            "Orders that were cancelled, and orders whose caller had gone before their batch began.",
        )
        .query(rate("holdfast_orders_cancelled_total", "", ""), "cancelled")
        .query(rate("holdfast_orders_abandoned_total", "", ""), "abandoned"),
        Panel::lines(
            "Holds",
            Unit::PerSecond,
            "Units kept for a cart: taken, let go of, and given back because their time was over.",
        )
        .query(rate("holdfast_holds_accepted_total", "", ""), "accepted")
        .query(rate("holdfast_holds_released_total", "", ""), "released")
        .query(rate("holdfast_holds_expired_total", "", ""), "expired"),
        Panel::lines(
            "Published, and left to the sweep",
            Unit::PerSecond,
            "Orders whose id reached the workers' queue. What could not be published waits for a worker's sweep; none is lost.",
        )
        .query(rate("holdfast_orders_published_total", "", ""), "published")
        .query(rate("holdfast_orders_unpublished_total", "", ""), "left to the sweep"),
    ]
}

fn processes() -> Vec<Panel> {
    let of = |metric: &str| select(metric, r#"job=~".*holdfast.*""#);
    vec![
        Panel::lines("CPU", Unit::Cpus, "CPUs in use by each process.").query(
            format!("rate({}[$__rate_interval])", of("process_cpu_seconds_total")),
            "{{instance}}",
        ),
        Panel::lines("Memory", Unit::Bytes, "Memory of each process that is in RAM.")
            .query(of("process_resident_memory_bytes"), "{{instance}}"),
        Panel::lines(
            "Open files",
            Unit::Ratio,
            "Part of the files and connections that a process may have open.",
        )
        .query(format!("{} / {}", of("process_open_fds"), of("process_max_fds")), "{{instance}}")
        .limits(0.7, 0.9),
        Panel::lines("Threads", Unit::Count, "Threads of each process.")
            .query(of("process_threads"), "{{instance}}"),
        Panel::lines("Uptime", Unit::Seconds, "Since when each process runs: a fall is a restart.")
            .query(format!("time() - {}", of("process_start_time_seconds")), "{{instance}}"),
        Panel::lines(
            "Builds",
            Unit::Count,
            "Processes by version and commit: two during a rollout.",
        )
        .query(
            format!("count by (service, version, commit) ({})", select("holdfast_build_info", "")),
            "{{service}} {{version}} {{commit}}",
        ),
    ]
}
