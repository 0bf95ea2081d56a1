//! PostgreSQL, Redis and the trace collector, as Holdfast sees them.

use crate::{
    grafana::{Dashboard, Panel, PanelRow, Unit},
    promql::{largest, quantile, rate, total},
};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "servers",
        title: "PostgreSQL and Redis, client side",
        description: "PostgreSQL, Redis and the trace collector as Holdfast sees them. Exporters of PostgreSQL and Redis show more.",
        rows: vec![
            PanelRow { title: "PostgreSQL", panels: postgres() },
            PanelRow { title: "Read replicas", panels: replicas() },
            PanelRow { title: "Product cache", panels: cache() },
            PanelRow { title: "Redis", panels: redis() },
            PanelRow { title: "Trace collector", panels: collector() },
        ],
    }
}

fn postgres() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Connections in use",
            Unit::Ratio,
            "Connections in use, as a share of the pool. admission: orders; main: everything else.",
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
            "Wait for a connection, p99",
            Unit::Seconds,
            "A free connection takes microseconds. If it takes longer, the pool is too small or statements are slow.",
        )
        .query(quantile(0.99, "holdfast_db_connection_wait_seconds", "", "pool"), "{{pool}}")
        .limits(0.01, 0.1),
        Panel::decades("Lock wait", Unit::Seconds, "Time until a batch has its row locks, including the round trip.")
            .query(quantile(0.5, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, median")
            .query(quantile(0.99, "holdfast_lock_wait_seconds", "", "lane"), "{{lane}}, p99")
            .limits(0.1, 0.5)
            .with_traces(),
        Panel::decades("Commit", Unit::Seconds, "Time of a commit, mostly the database's disk.")
            .query(quantile(0.5, "holdfast_commit_seconds", "", ""), "median")
            .query(quantile(0.99, "holdfast_commit_seconds", "", ""), "p99")
            .limits(0.05, 0.25),
        Panel::decades("Locks held", Unit::Seconds, "From the lock to the end of the commit.")
            .query(quantile(0.5, "holdfast_lock_held_seconds", "", ""), "median")
            .query(quantile(0.99, "holdfast_lock_held_seconds", "", ""), "p99")
            .limits(0.1, 0.5),
        Panel::lines(
            "Orders lost by the database",
            Unit::Count,
            "Accepted orders that a failover or a restore of the database has lost, and those of them that it has again. The log of the API has their ids.",
        )
        .query(total("holdfast_orders_lost_total", "", "pod"), "lost {{pod}}")
        .query(total("holdfast_orders_found_total", "", "pod"), "found again {{pod}}"),
    ]
}

fn replicas() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Reads by server",
            Unit::PerSecond,
            "Reads that a standby could serve. replica: a standby served them. The others are those of the primary, by reason.",
        )
        .query(rate("holdfast_read_replica_reads_total", "", "outcome"), "{{outcome}}"),
        Panel::areas(
            "Read replicas by state",
            Unit::Count,
            "As each API replica sees them: used, or why they are left out.",
        )
        .query(total("holdfast_read_replicas", "", "state"), "{{state}}"),
        Panel::decades(
            "Wait for a read replica",
            Unit::Seconds,
            "Time until a standby could serve a read: the question to the primary, and the wait until the standby had replayed enough.",
        )
        .query(quantile(0.5, "holdfast_read_replica_wait_seconds", "", ""), "median")
        .query(quantile(0.99, "holdfast_read_replica_wait_seconds", "", ""), "p99")
        .limits(0.02, 0.1),
        Panel::lines(
            "Questions to the primary",
            Unit::PerSecond,
            "Questions for its position. Reads that wait at the same time share one.",
        )
        .query(rate("holdfast_read_replica_questions_total", "", ""), "questions"),
        Panel::lines(
            "Distance of the read replicas",
            Unit::Bytes,
            "The largest distance of a standby from the primary's log.",
        )
        .query(largest("holdfast_read_replica_lag_bytes", "", ""), "bytes"),
    ]
}

fn cache() -> Vec<Panel> {
    let reads = |labels| rate("holdfast_cache_reads_total", labels, "");
    vec![
        Panel::areas(
            "Reads by tier",
            Unit::PerSecond,
            "Answered by the process's memory, by Redis, by neither (none: the database was asked), or by another read's load (shared).",
        )
        .query(rate("holdfast_cache_reads_total", "", "tier"), "{{tier}}"),
        Panel::lines("Hit ratio", Unit::Ratio, "Share of the product reads that were answered without the database.")
            .query(format!("{} / ({} > 0)", reads(r#"tier!="none""#), reads("")), "hits")
            .floors(0.8, 0.5),
        Panel::lines(
            "Invalidations and patches",
            Unit::PerSecond,
            "Products that a replica changed, messages about changes by other replicas, and values whose stock was updated in memory.",
        )
        .query(rate("holdfast_cache_invalidations_total", "", ""), "own changes")
        .query(rate("holdfast_cache_peer_changes_total", "", ""), "changes of peers")
        .query(rate("holdfast_cache_patches_total", "", ""), "patches"),
        Panel::lines(
            "Fence rejections and fills",
            Unit::PerSecond,
            "Values that were written to Redis, and values that were not kept because a newer version was known.",
        )
        .query(rate("holdfast_cache_fills_total", "", ""), "fills")
        .query(rate("holdfast_cache_fence_rejections_total", "", "tier"), "refused by {{tier}}"),
        Panel::lines(
            "Confirmations",
            Unit::PerSecond,
            "Products that PostgreSQL was asked about because cached values may not be older than HOLDFAST_CACHE_MAX_AGE_MS. failed: no answer in time, so the next reader loads the product.",
        )
        .query(rate("holdfast_cache_confirmations_total", "", "outcome"), "{{outcome}}"),
        Panel::lines("Products in memory", Unit::Count, "In each process's memory.")
            .query(total("holdfast_cache_process_products", "", "pod"), "products {{pod}}"),
        Panel::lines("Size in memory", Unit::Bytes, "Size of the products in each process's memory, including bookkeeping.")
            .query(total("holdfast_cache_process_bytes", "", "pod"), "size {{pod}}"),
    ]
}

fn redis() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Tiers that answer",
            Unit::Count,
            "Replicas whose memory answers reads, and replicas that read from Redis. While Redis is down, reads come from the database.",
        )
        .query(total("holdfast_cache_up", "", "tier"), "{{tier}}")
        .floors(1.0, 1.0),
        Panel::lines(
            "Errors",
            Unit::PerSecond,
            "Calls of the cache to Redis that failed or took too long, and messages that were dropped because too many waited for Redis.",
        )
        .query(rate("holdfast_cache_redis_errors_total", "", ""), "errors")
        .query(rate("holdfast_cache_dropped_total", "", ""), "dropped")
        .limits(0.1, 10.0),
        Panel::lines(
            "Invalidations owed",
            Unit::Count,
            "Invalidations that are kept until Redis can be reached. Until they are delivered, the replica does not read from Redis.",
        )
        .query(total("holdfast_cache_owed_invalidations", "", ""), "owed")
        .limits(1.0, 1000.0),
        Panel::lines(
            "Owed and repaid",
            Unit::PerSecond,
            "Invalidations that could not be delivered at once, and those that were delivered later.",
        )
        .query(rate("holdfast_cache_owed_total", "", ""), "owed")
        .query(rate("holdfast_cache_repaid_total", "", ""), "repaid"),
        Panel::lines(
            "Memory discarded",
            Unit::PerSecond,
            "Times that a process emptied its memory because its subscription was interrupted, for example at the start or when Redis was down.",
        )
        .query(rate("holdfast_cache_process_resets_total", "", ""), "resets"),
        Panel::lines(
            "Published, and left to the sweep",
            Unit::PerSecond,
            "Orders that were published to the queue, and orders that could not be: the sweep publishes them later.",
        )
        .query(rate("holdfast_orders_published_total", "", ""), "published")
        .query(rate("holdfast_orders_unpublished_total", "", ""), "left to the sweep"),
    ]
}

fn collector() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Trace spans",
            Unit::PerSecond,
            "Sent to the collector, dropped because the queue was full, or dropped because the collector did not accept them. Orders do not wait for it.",
        )
        .query(rate("holdfast_trace_spans_total", "", "outcome"), "{{outcome}}"),
    ]
}
