//! Each exported metric changes under the load, or in a test that is listed here.

use holdfast_sandbox::{Prometheus, until};

use crate::{exported, text};

/// Metrics that do not change under the load, and the test in which they do.
const MOVED_ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "holdfast_cache_dropped_total",
        "crates/cache/tests/it/outage.rs",
        "messages_beyond_the_limit_of_a_hung_redis_are_dropped_and_counted",
    ),
    (
        "holdfast_http_connections_evicted_total",
        "crates/api/src/http/open_connections.rs",
        "the_longest_idle_makes_room_first",
    ),
    (
        "holdfast_orders_lost_total",
        "crates/api/tests/it/lost_orders.rs",
        "orders_that_a_failover_has_lost_are_reported_once_although_their_ids_are_used_again",
    ),
    (
        "holdfast_orders_found_total",
        "crates/api/tests/it/lost_orders.rs",
        "orders_that_were_reported_as_lost_are_reported_as_found_when_the_former_primary_is_back",
    ),
    (
        "holdfast_read_replica_reads_total",
        "crates/store/tests/it/read_replicas.rs",
        "reads_are_served_by_standbys_and_show_each_write_of_any_process",
    ),
    (
        "holdfast_read_replica_wait_seconds",
        "crates/store/tests/it/read_replicas.rs",
        "reads_are_served_by_standbys_and_show_each_write_of_any_process",
    ),
    (
        "holdfast_read_replica_questions_total",
        "crates/store/tests/it/read_replicas.rs",
        "reads_that_arrive_together_share_a_question_to_the_primary",
    ),
    (
        "holdfast_read_replica_lag_bytes",
        "crates/store/tests/it/read_replicas.rs",
        "a_standby_whose_replay_is_paused_is_never_read",
    ),
    (
        "holdfast_read_replicas",
        "crates/store/tests/it/read_replicas.rs",
        "no_read_fails_when_a_standby_is_lost_and_it_is_used_again_when_it_is_back",
    ),
    (
        "holdfast_http_buffered_bytes",
        "crates/api/src/http/metrics.rs",
        "budgets_are_shown_and_their_refusals_counted",
    ),
    (
        "holdfast_http_buffer_refused_total",
        "crates/api/src/http/metrics.rs",
        "budgets_are_shown_and_their_refusals_counted",
    ),
];

/// Whether a query has a metric that the load does not move.
pub fn is_moved_elsewhere(query: &str) -> bool {
    MOVED_ELSEWHERE.iter().any(|(name, ..)| query.contains(name))
}

/// Each metric had a value above 0 in a scrape during the load.
pub async fn check(prometheus: &Prometheus) {
    // The last changes may not have been scraped yet, and rare events may take a while.
    until("every metric changes under the load", async || {
        let still = not_moved(prometheus).await;
        if still.is_empty() { Ok(()) } else { Err(format!("not {still:?}")) }
    })
    .await;
}

async fn not_moved(prometheus: &Prometheus) -> Vec<String> {
    let mut still = Vec::new();
    for program in ["holdfast-api", "holdfast-worker"] {
        for (name, family) in exported::families(program) {
            let series =
                if family.kind == "histogram" { format!("{name}_count") } else { name.clone() };
            let question = format!("max(max_over_time({series}{{namespace=\"shop\"}}[5m])) > 0");
            let moved = !prometheus.query(&question).await.unwrap().is_empty();
            if !moved && !MOVED_ELSEWHERE.iter().any(|(excepted, ..)| *excepted == name) {
                still.push(name);
            }
        }
    }
    still
}

#[test]
fn tests_that_are_named_elsewhere_exist() {
    for (name, file, test) in MOVED_ELSEWHERE {
        assert!(text(file).contains(&format!("fn {test}()")), "{name}: {test} does not exist");
    }
}
