//! Runs the benchmark, far too briefly for meaningful results: each part runs, its audit succeeds, and the goals have
//! their figures.

use std::time::Duration;

use holdfast_bench::report::goals::goals;
use holdfast_bench::report::{chart, markdown, terminal};
use holdfast_bench::scenarios::{ALL, Bench, Settings};

use crate::MACHINE;

fn shortest() -> Settings {
    let moment = Duration::from_millis(300);
    Settings {
        quick: true,
        rounds: 1,
        warm_up: moment,
        measured: moment,
        sweep: vec![1],
        pgbench_clients: vec![1],
        pgbench_s: 1,
        // Long enough for the time around taking and releasing the lock that is not measured.
        row_locked: Duration::from_secs(2),
        row_lock_turns: 1,
        drain_filling: moment,
        overload: moment,
    }
}

#[tokio::test]
async fn every_part_runs_and_its_audit_holds() {
    let _alone = MACHINE.lock().await;
    let out = tempfile::tempdir().unwrap();
    let bench = Bench::start(shortest(), "a test".into(), out.path().into()).await.unwrap();
    // Two parts differ from another one only in the mix of products.
    let parts: Vec<String> = ALL
        .map(|part| part.name.to_owned())
        .into_iter()
        .filter(|it| it != "zipf" && it != "mix")
        .collect();
    let run = bench.run(&parts).await.unwrap();

    assert_eq!(run.failures, [""; 0]);
    assert!(run.succeeded(), "{:?}", run.audits);
    assert!(run.audits.len() >= 11, "{}", run.audits.len());
    let accepted: i64 = run.audits.iter().map(|audit| audit.findings.orders).sum();
    assert!(accepted > 0);
    let failed: Vec<_> = run.points.iter().filter(|point| point.failed > 0).collect();
    assert!(failed.is_empty(), "{failed:?}");
    for goal in goals(&run) {
        assert!(goal.measured.is_some_and(f64::is_finite), "{}: {:?}", goal.work, goal.measured);
    }

    let mut table = Vec::new();
    terminal::write(&run, &mut table).unwrap();
    let page = markdown::render(&run);
    assert!(!page.contains("not measured") && !page.contains("NaN"), "{page}");
    assert!(chart::render(&run).unwrap().contains("Holdfast, one hot product"));
    assert!(std::fs::read_dir(out.path()).unwrap().next().is_none(), "no violation was found");
}
