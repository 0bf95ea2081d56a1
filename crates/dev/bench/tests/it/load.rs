//! The counts of the load generator are correct.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use holdfast_bench::audit::Log;
use holdfast_bench::load::{self, Choice, ClientGroup, GroupReport, LoadPlan, Pace, Requests};

use crate::MACHINE;
use crate::server::{Reply, ScriptedServer, created, start};

const SECOND: Duration = Duration::from_secs(1);

fn orders(server: &ScriptedServer, connections: usize, pace: Pace) -> ClientGroup {
    ClientGroup {
        name: "orders",
        targets: vec![server.address],
        connections,
        requests: Arc::new(Requests::orders(&[1, 2, 3], Choice::Uniform)),
        pace,
    }
}

fn run(plan: &LoadPlan) -> GroupReport {
    load::run(plan, |_| {}).unwrap().groups.remove(0)
}

fn plan(group: ClientGroup) -> LoadPlan {
    LoadPlan { answer_limit: SECOND, ..LoadPlan::closed(group, Duration::ZERO, SECOND / 2) }
}

#[test]
fn every_accepted_order_is_logged_once_however_answers_are_split() {
    let _alone = MACHINE.blocking_lock();
    let server = start(|number| {
        if number % 2 == 0 {
            Reply::InPieces(created(number))
        } else {
            Reply::Answer(created(number))
        }
    });
    for threads in [1, 3] {
        let before = server.received();
        let group = orders(&server, 8, Pace::Closed);
        let report = run(&LoadPlan { threads, ..plan(group) });
        let ids: BTreeSet<i64> = report.accepted.iter().map(|order| order.id).collect();
        let expected = before + 1..=server.received();
        assert!(expected.clone().count() > 50, "{expected:?}");
        assert!(ids.iter().copied().eq(expected.map(u64::cast_signed)), "each id, and no other");
        assert_eq!(report.accepted.len(), ids.len(), "each once");
        assert!(report.accepted.iter().all(|it| i64::from(it.quantity) == it.product_id));
        assert_eq!((report.cut_off, report.connections_lost, report.timed_out), (0, 0, 0));
        // Answers after the end are logged but not counted.
        assert!(report.orders.count() <= ids.len() as u64);
        assert!(report.orders.count() + 8 >= ids.len() as u64);
    }
}

#[test]
fn an_interrupted_order_is_counted_and_the_connection_is_reopened() {
    let _alone = MACHINE.blocking_lock();
    let server =
        start(
            |number| if number % 100 == 0 { Reply::Close } else { Reply::Answer(created(number)) },
        );
    let report = run(&plan(orders(&server, 4, Pace::Closed)));
    let received = server.received();
    assert!(received > 300, "{received}: the connections did not come back");
    assert_eq!(report.cut_off, received / 100);
    assert_eq!(report.connections_lost, received / 100);
    assert_eq!(report.accepted.len() as u64, received - received / 100);
}

#[test]
fn an_answer_with_an_unknown_outcome_is_logged_as_an_order_that_may_exist() {
    let _alone = MACHINE.blocking_lock();
    let answer = |status: &str, kind: &str| {
        let body = format!(r#"{{"type":"/problems/{kind}"}}"#);
        let length = body.len();
        Reply::Answer(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"))
    };
    let server = start(move |number| match number % 4 {
        0 => answer("503 Service Unavailable", "outcome-unknown"),
        1 => answer("504 Gateway Timeout", "timeout"),
        2 => answer("503 Service Unavailable", "unavailable"),
        _ => Reply::Answer(created(number)),
    });
    let mut report = load::run(&plan(orders(&server, 1, Pace::Closed)), |_| {}).unwrap();
    let received = server.received();
    let unknown = received / 4 + received.saturating_add(3) / 4;
    assert_eq!((report.groups[0].outcome_unknown, report.groups[0].cut_off), (unknown, 0));
    report.groups[0].cut_off = 5;
    let mut log = Log::default();
    log.add(&report);
    assert_eq!(log.cut_off, unknown + 5, "with those that were never answered");
}

#[test]
fn a_silent_server_times_out() {
    let _alone = MACHINE.blocking_lock();
    let server = start(|_| Reply::Silence);
    let started = Instant::now();
    let report =
        run(&LoadPlan { answer_limit: SECOND / 4, ..plan(orders(&server, 2, Pace::Closed)) });
    assert!(started.elapsed() < 20 * SECOND, "{:?}", started.elapsed());
    assert!(report.timed_out > 0);
    assert_eq!(report.cut_off, server.received());
    assert!(report.accepted.is_empty());
}

#[test]
fn refusals_are_distinguished_by_retry_after() {
    let _alone = MACHINE.blocking_lock();
    let server = start(|number| {
        let retry_after = if number % 4 == 0 { "" } else { "retry-after: 1\r\n" };
        Reply::Answer(format!(
            "HTTP/1.1 503 Service Unavailable\r\n{retry_after}content-length: 0\r\n\r\n"
        ))
    });
    let report = run(&plan(orders(&server, 1, Pace::Closed)));
    let refused = report.refused.count();
    assert!(refused > 100);
    assert_eq!(report.statuses[&503], refused);
    assert_eq!(report.refused_without_retry_after, refused / 4);
    assert_eq!((report.orders.count(), report.unexpected(), report.cut_off), (0, 0, 0));
}

#[test]
fn an_open_loop_counts_a_stall_for_all_scheduled_requests() {
    const STALL: Duration = Duration::from_millis(500);
    let _alone = MACHINE.blocking_lock();
    let begun = Instant::now();
    let stalls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&stalls);
    let server = start(move |number| {
        // From 0.2 s on, the two connections stall once each.
        if begun.elapsed() > SECOND / 5 && count.fetch_add(1, Ordering::SeqCst) < 2 {
            std::thread::sleep(STALL);
        }
        Reply::Answer(created(number))
    });
    let pace = Pace::Open { per_second: 200.0, patience: 10 * SECOND };
    let report = run(&LoadPlan { measured: SECOND, ..plan(orders(&server, 2, pace)) });
    assert_eq!(report.offered, 200, "offered at its rate, stall or not");
    assert_eq!(report.accepted.len(), 200);
    // 100 of 200 requests were due during the stall, and waited between 0.5 s and 0 s for its end. Two were in flight:
    // a closed loop would only show those, and its 90th percentile would show none.
    assert!(report.orders.quantile_ms(0.9) > 200.0, "{}", report.orders.quantile_ms(0.9));
    assert!(report.orders.quantile_ms(0.3) < 100.0, "{}", report.orders.quantile_ms(0.3));
}

#[test]
fn requests_that_cannot_be_sent_in_time_are_dropped_and_counted() {
    let _alone = MACHINE.blocking_lock();
    let server = start(|number| {
        // A slow server is the subject.
        std::thread::sleep(SECOND / 50);
        Reply::Answer(created(number))
    });
    let pace = Pace::Open { per_second: 500.0, patience: SECOND / 10 };
    let report = run(&plan(orders(&server, 1, pace)));
    // One connection at 50/s answers about 25 of the 250 requests.
    assert_eq!(report.offered, report.unsent + report.accepted.len() as u64);
    assert!((200..=250).contains(&report.offered), "{}", report.offered);
    assert!(report.accepted.len() < 40, "{}", report.accepted.len());
}

#[test]
fn every_request_of_an_open_loop_has_one_outcome() {
    let _alone = MACHINE.blocking_lock();
    // Two connections, and a server that is silent, hangs up, refuses, and is slow.
    let server = start(|number| match number % 20 {
        5 => Reply::Silence,
        10 => Reply::Close,
        15 => Reply::Answer("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".into()),
        _ => {
            std::thread::sleep(SECOND / 200);
            Reply::Answer(created(number))
        }
    });
    let pace = Pace::Open { per_second: 400.0, patience: SECOND / 20 };
    for (warm_up, due) in [(Duration::ZERO, 400), (SECOND / 4, 500)] {
        let report = run(&LoadPlan {
            answer_limit: SECOND / 8,
            warm_up,
            measured: SECOND,
            threads: 2,
            ..plan(orders(&server, 2, pace))
        });
        let outcomes = &report.outcomes;
        assert_eq!(outcomes.due, due, "{outcomes}");
        assert!(outcomes.are_complete(), "{outcomes}");
        assert_eq!(outcomes.answers[&201], report.accepted.len() as u64, "{outcomes}");
        assert_eq!(outcomes.unanswered, report.cut_off, "{outcomes}");
        let seen = [outcomes.answers[&503], outcomes.unanswered, outcomes.unsent];
        assert!(seen.iter().all(|count| *count > 0), "{outcomes}");
    }
}

#[test]
fn an_unreachable_target_is_an_error() {
    let _alone = MACHINE.blocking_lock();
    let server = start(|_| Reply::Silence);
    let mut group = orders(&server, 1, Pace::Closed);
    // Nothing listens on port 1.
    group.targets[0].set_port(1);
    assert!(load::run(&plan(group), |_| {}).is_err());
}
