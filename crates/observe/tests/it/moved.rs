//! Each exported metric is moved by the load, or by a test that is named here.

use holdfast_sandbox::Prometheus;

use crate::{exported, root};

/// Metrics that the load does not move, with the file of the test that does.
const MOVED_ELSEWHERE: &[(&str, &str)] =
    &[("holdfast_webhook_paused", "crates/worker/src/fulfilment/webhook/gate.rs")];

/// Each metric has been more than 0 at some time of the load.
pub async fn check(prometheus: &Prometheus) {
    let mut still = Vec::new();
    for program in ["holdfast-api", "holdfast-worker"] {
        for (name, family) in exported::families(program) {
            let series =
                if family.kind == "histogram" { format!("{name}_count") } else { name.clone() };
            let question = format!("max(max_over_time({series}{{namespace=\"shop\"}}[5m])) > 0");
            let moved = !prometheus.query(&question).await.unwrap().is_empty();
            let excepted = MOVED_ELSEWHERE.iter().any(|(excepted, _)| *excepted == name);
            if !moved && !excepted {
                still.push(name);
            }
        }
    }
    assert!(still.is_empty(), "no load moves {still:?}");
}

#[test]
fn the_other_tests_name_what_they_move() {
    for (name, file) in MOVED_ELSEWHERE {
        assert!(root().join(file).is_file(), "{name}: {file} is gone");
    }
}
