//! API: requests, connections, holds, and the process.

use crate::{
    grafana::{Dashboard, Panel, PanelRow, Unit},
    promql::{quantile, rate, select, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "api",
        title: "API",
        description: "Requests by route, refusals, and the processes.",
        rows: vec![
            PanelRow { title: "Requests", panels: requests() },
            PanelRow { title: "Orders and holds", panels: orders_and_holds() },
            PanelRow { title: "Processes", panels: processes() },
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
            "5xx: server errors or overload. 4xx: client errors, including 409 for sold out. gone: the client did not wait for the answer.",
        )
        .query(rate("holdfast_http_requests_total", "", "status"), "{{status}}"),
        Panel::decades(
            "Time to answer, p99",
            Unit::Seconds,
            "Time from the headers of a request to its answer, by route.",
        )
        .query(
            quantile(0.99, "holdfast_http_request_seconds", "", "route, method"),
            "{{method}} {{route}}",
        )
        .limits(0.1, 0.25)
        .with_traces(),
        Panel::lines("In flight", Unit::Count, "Requests in progress.")
            .query(total("holdfast_http_requests_in_flight", "", "pod"), "requests {{pod}}"),
        Panel::lines("Connections", Unit::Count, "Open connections of the public port.")
            .query(total("holdfast_http_connections", "", "pod"), "connections {{pod}}"),
        Panel::lines(
            "Connections refused and closed",
            Unit::PerSecond,
            "Connections that were refused because too many were open, and connections that were closed to make room for others.",
        )
        .query(rate("holdfast_http_connections_refused_total", "", ""), "refused")
        .query(rate("holdfast_http_connections_evicted_total", "", ""), "closed to make room")
        .limits(0.1, 10.0),
        Panel::lines(
            "Buffered requests and answers",
            Unit::Bytes,
            "Memory in use by unanswered requests and unread answers of all connections.",
        )
        .query(total("holdfast_http_buffered_bytes", "", "pod, budget"), "{{budget}} {{pod}}"),
        Panel::lines(
            "Requests and answers refused for lack of memory",
            Unit::PerSecond,
            "Requests and answers that were refused with 503 because their memory budget was full: slow clients, or an attack.",
        )
        .query(rate("holdfast_http_buffer_refused_total", "", "budget"), "{{budget}}")
        .limits(0.1, 10.0),
    ]
}

fn orders_and_holds() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Refused, by reason",
            Unit::PerSecond,
            "not_enough: sold out. full, lock_timeout, unavailable, shutting_down: with Retry-After. internal: a bug, see the log.",
        )
        .query(rate("holdfast_orders_refused_total", "", "reason"), "{{reason}}"),
        Panel::lines(
            "Cancelled and abandoned",
            Unit::PerSecond,
            "Cancelled orders, and orders whose client disconnected before their batch began.",
        )
        .query(rate("holdfast_orders_cancelled_total", "", ""), "cancelled")
        .query(rate("holdfast_orders_abandoned_total", "", ""), "abandoned"),
        Panel::lines(
            "Holds",
            Unit::PerSecond,
            "Holds that were accepted, released by the customer, or expired.",
        )
        .query(rate("holdfast_holds_accepted_total", "", ""), "accepted")
        .query(rate("holdfast_holds_released_total", "", ""), "released")
        .query(rate("holdfast_holds_expired_total", "", ""), "expired"),
        Panel::lines(
            "Published, and left to the sweep",
            Unit::PerSecond,
            "Orders that were published to the queue, and orders that could not be: a worker's sweep publishes them later. No order is lost.",
        )
        .query(rate("holdfast_orders_published_total", "", ""), "published")
        .query(rate("holdfast_orders_unpublished_total", "", ""), "left to the sweep"),
    ]
}

fn processes() -> Vec<Panel> {
    let of = |metric: &str| select(metric, r#"job=~".*holdfast.*""#);
    vec![
        Panel::lines("CPU", Unit::Cpus, "CPU time used by each process.").query(
            format!("rate({}[$__rate_interval])", of("process_cpu_seconds_total")),
            "{{instance}}",
        ),
        Panel::lines("Memory", Unit::Bytes, "Resident memory of each process.")
            .query(of("process_resident_memory_bytes"), "{{instance}}"),
        Panel::lines(
            "Open files",
            Unit::Ratio,
            "Open files and connections, as a share of the limit.",
        )
        .query(format!("{} / {}", of("process_open_fds"), of("process_max_fds")), "{{instance}}")
        .limits(0.7, 0.9),
        Panel::lines("Threads", Unit::Count, "Threads of each process.")
            .query(of("process_threads"), "{{instance}}"),
        Panel::lines(
            "Uptime",
            Unit::Seconds,
            "Time since the start of each process. A drop is a restart.",
        )
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
