//! PostgreSQL, Redis and the trace collector, as Holdfast sees them.

use crate::{
    grafana::{Dashboard, Panel, Row, Unit},
    promql::{quantile, rate, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "servers",
        title: "PostgreSQL and Redis as seen from here",
        description: "What the servers below cost Holdfast: their own exporters show the rest.",
        rows: vec![
            Row { title: "PostgreSQL", panels: postgres() },
            Row { title: "Product cache", panels: cache() },
            Row { title: "Redis", panels: redis() },
            Row { title: "Trace collector", panels: collector() },
        ],
    }
}

fn postgres() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Connections in use",
            Unit::Ratio,
            "Part of a pool's connections that is in use: main for everything but orders, admission for orders.",
        )
        .query(
            format!(
                "{} / {}",
                total("holdfast_db_connections", r#"state="in_use""#, "pod, pool"),
                total("holdfast_db_connections_max", "", "pod, pool")
            ),
            "{{pool}} {{pod}}",
        )
        .limits(0.8, 0.95),
        Panel::areas("Connections open", Unit::Count, "By pool and state.")
            .query(total("holdfast_db_connections", "", "pool, state"), "{{pool}} {{state}}"),
        Panel::decades(
            "Wait for a connection, 99 of 100",
            Unit::Seconds,
            "A free connection is had in microseconds. More: the pool is too small, or statements are slow.",
        )
        .query(quantile(0.99, "holdfast_db_connection_wait_seconds", "", "pool"), "{{pool}}")
        .limits(0.01, 0.1),
        Panel::decades("Lock wait", Unit::Seconds, "Row locks of batches, the round trip included.")
            .query(quantile(0.5, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, half")
            .query(quantile(0.99, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, 99 of 100")
            .limits(0.1, 0.5)
            .with_traces(),
        Panel::decades("Commit", Unit::Seconds, "A commit is the database's disk.")
            .query(quantile(0.5, "holdfast_commit_seconds", "", ""), "half")
            .query(quantile(0.99, "holdfast_commit_seconds", "", ""), "99 of 100")
            .limits(0.05, 0.25),
        Panel::decades("Locks held", Unit::Seconds, "From the lock to the end of the commit.")
            .query(quantile(0.5, "holdfast_lock_held_seconds", "", ""), "half")
            .query(quantile(0.99, "holdfast_lock_held_seconds", "", ""), "99 of 100")
            .limits(0.1, 0.5),
    ]
}

fn cache() -> Vec<Panel> {
    let reads = |labels| rate("holdfast_cache_reads_total", labels, "");
    vec![
        Panel::areas(
            "Reads by tier",
            Unit::PerSecond,
            "Who answered: the process's memory, Redis, none (the database), or another read's load (shared).",
        )
        .query(rate("holdfast_cache_reads_total", "", "tier"), "{{tier}}"),
        Panel::lines("Hit ratio", Unit::Ratio, "Part of the product reads that the database did not see.")
            .query(format!("{} / ({} > 0)", reads(r#"tier!="none""#), reads("")), "hits")
            .floors(0.8, 0.5),
        Panel::lines(
            "Invalidations and patches",
            Unit::PerSecond,
            "Products that a replica changed, changes of other replicas that arrived, and stock that was brought up to date in memory.",
        )
        .query(rate("holdfast_cache_invalidations_total", "", ""), "own changes")
        .query(rate("holdfast_cache_peer_changes_total", "", ""), "changes of peers")
        .query(rate("holdfast_cache_patches_total", "", ""), "patches"),
        Panel::lines(
            "Fence rejections and fills",
            Unit::PerSecond,
            "Values that Redis took, and values that were not kept because a newer version was known: stale fills that did no harm.",
        )
        .query(rate("holdfast_cache_fills_total", "", ""), "fills")
        .query(rate("holdfast_cache_fence_rejections_total", "", "tier"), "refused by {{tier}}"),
        Panel::lines("Products in memory", Unit::Count, "In each process's memory.")
            .query(total("holdfast_cache_process_products", "", "pod"), "products {{pod}}"),
        Panel::lines("Size in memory", Unit::Bytes, "Of the products, bookkeeping included.")
            .query(total("holdfast_cache_process_bytes", "", "pod"), "size {{pod}}"),
    ]
}

fn redis() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Tiers that answer",
            Unit::Count,
            "Replicas whose memory, and for which Redis, may answer reads. Where Redis is gone, reads come from the database and are true.",
        )
        .query(total("holdfast_cache_up", "", "tier"), "{{tier}}")
        .floors(1.0, 1.0),
        Panel::lines(
            "Errors",
            Unit::PerSecond,
            "Calls of the cache to Redis that failed or took too long, and work that was dropped because too much waited for Redis.",
        )
        .query(rate("holdfast_cache_redis_errors_total", "", ""), "errors")
        .query(rate("holdfast_cache_dropped_total", "", ""), "dropped")
        .limits(0.1, 10.0),
        Panel::lines(
            "Invalidations owed",
            Unit::Count,
            "Invalidations that Redis has not got yet. Until they are paid, Redis does not answer for these products.",
        )
        .query(total("holdfast_cache_owed_invalidations", "", ""), "owed")
        .limits(1.0, 1000.0),
        Panel::lines(
            "Owed and repaid",
            Unit::PerSecond,
            "Invalidations that could not be delivered at once, and those that were delivered after all.",
        )
        .query(rate("holdfast_cache_owed_total", "", ""), "owed")
        .query(rate("holdfast_cache_repaid_total", "", ""), "repaid"),
        Panel::lines(
            "Memory discarded",
            Unit::PerSecond,
            "Times that a process discarded its memory because its subscription could not vouch for it. At the start, and when Redis was away.",
        )
        .query(rate("holdfast_cache_process_resets_total", "", ""), "resets"),
        Panel::lines(
            "Published, and left to the sweep",
            Unit::PerSecond,
            "Order ids that Redis took for the workers, and those that it did not: the sweep publishes them.",
        )
        .query(rate("holdfast_orders_published_total", "", ""), "published")
        .query(rate("holdfast_orders_unpublished_total", "", ""), "left to the sweep"),
    ]
}

fn collector() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Spans of traces",
            Unit::PerSecond,
            "Sent to the collector, or dropped: because the queue was full, or because the collector did not take them. Orders do not wait for it.",
        )
        .query(rate("holdfast_trace_spans_total", "", "outcome"), "{{outcome}}"),
    ]
}
