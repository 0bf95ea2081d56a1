//! A minute of random faults.

use std::time::Duration;

use holdfast_chaos::clients::Moment;
use holdfast_chaos::{chaos, coverage, timeline};

/// Printed by a failing test; `holdfast-chaos run --seed` draws the same faults.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_random_faults_breaks_no_promise() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let plan = chaos::plan(seed, Duration::from_mins(1));
    let tell = |struck: &chaos::Struck| eprintln!("{struck:?}");
    let skipped = |fault, why: &_| eprintln!("SKIPPED: {fault}: {why:#}");
    let crowd = chaos::crowd(seed, chaos::HANG_UPS);
    let found = chaos::run(&plan, &crowd, tell, skipped).await.unwrap();
    eprintln!("{}", coverage::render(&found));
    let answers = &found.seen.answers;
    assert!(found.findings.hold(), "seed {seed}: {}\n{answers:?}", found.findings);
    assert!(found.findings.accepted.unwrap() > 200, "there was load: {answers:?}");
    assert_eq!(found.findings.missing, 0);
    for moment in Moment::ALL {
        let hung_up = found.seen.hang_ups.keys().any(|(_, at)| *at == moment);
        assert!(hung_up, "nobody hung up {}", moment.words());
    }
    let svg = timeline::render(&found, seed);
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for struck in &found.struck {
        assert!(svg.contains(&struck.fault.to_string()), "{svg}");
    }
}

#[test]
fn a_seed_draws_the_same_faults_again() {
    let length = Duration::from_mins(10);
    assert_eq!(chaos::plan(7, length), chaos::plan(7, length));
    assert_ne!(chaos::plan(7, length), chaos::plan(8, length));
}
