//! What a sale's status says, from what is known of it: pure.

use jiff::Timestamp;

use super::{
    book::NotWritten,
    resource::{Condition, FlashSaleStatus, Phase, Report},
    timeline::{Timeline, TimelineError},
};

/// One part of the capacity that a sale wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `workers` or `api`, as in the spec.
    pub name: &'static str,
    /// The fewest replicas that it wants.
    pub wanted: i32,
    /// What there is; `None` without an autoscaler.
    pub found: Option<Found>,
}

/// What there is of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The autoscaler's maximum.
    pub maximum: i32,
    /// Pods that are ready.
    pub ready: i32,
}

/// What is known of a sale.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its times, or why it has none.
    pub timeline: Result<Timeline, TimelineError>,
    /// Whether it stands in the database; whether it is held back there.
    pub written: Result<bool, NotWritten>,
    /// The capacity that it wants.
    pub parts: Vec<Part>,
    /// The generation of its spec.
    pub generation: Option<i64>,
}

/// A verdict: what the conditions say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All that is to be done by now is done.
    Ready(&'static str, String),
    /// It comes by itself.
    Reconciling(&'static str, String),
    /// Somebody has to do something.
    Stalled(&'static str, String),
}

/// Whether every part has the pods that it wants.
pub fn is_ready(parts: &[Part]) -> bool {
    parts.iter().all(|part| part.found.is_some_and(|found| found.ready >= part.wanted))
}

/// The status of a sale at a time, with the transition times and the report of the one before.
pub fn status(known: &Known, now: Timestamp, before: Option<&FlashSaleStatus>) -> FlashSaleStatus {
    let (phase, verdict) = judge(known, now);
    let flags = match &verdict {
        Verdict::Ready(..) => [true, false, false],
        Verdict::Reconciling(..) => [false, true, false],
        Verdict::Stalled(..) => [false, false, true],
    };
    let (Verdict::Ready(reason, message)
    | Verdict::Reconciling(reason, message)
    | Verdict::Stalled(reason, message)) = verdict;
    let conditions =
        ["Ready", "Reconciling", "Stalled"].into_iter().zip(flags).map(|(kind, on)| {
            let status = if on { "True" } else { "False" };
            let earlier = before.and_then(|it| it.conditions.iter().find(|it| it.kind == kind));
            let since = earlier.filter(|it| it.status == status).map(|it| &it.last_transition_time);
            Condition {
                kind: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: message.clone(),
                last_transition_time: since.cloned().unwrap_or_else(|| seconds(now)),
                observed_generation: known.generation,
            }
        });
    FlashSaleStatus {
        observed_generation: known.generation,
        phase: Some(phase),
        conditions: conditions.collect(),
        report: before.and_then(|before| before.report.clone()),
    }
}

fn judge(known: &Known, now: Timestamp) -> (Phase, Verdict) {
    let timeline = match &known.timeline {
        Ok(timeline) => timeline,
        Err(error) => return (Phase::Failed, Verdict::Stalled("InvalidSpec", error.to_string())),
    };
    let phase = timeline.phase(now);
    let held_back = match &known.written {
        Ok(held_back) => *held_back,
        Err(NotWritten::NoDatabase) => {
            let message = "the operator has no database to write it down in: DATABASE_URL";
            return (Phase::Failed, Verdict::Stalled("NoDatabase", message.to_owned()));
        }
        // What stands there of it is enforced.
        Err(NotWritten::Refused { reason: "SaleBegun", message }) => {
            return (phase, Verdict::Stalled("SaleBegun", message.clone()));
        }
        Err(NotWritten::Refused { reason, message }) => {
            return (Phase::Failed, Verdict::Stalled(reason, message.clone()));
        }
        Err(NotWritten::Unavailable) => {
            let message = "the database has not taken it yet; trying again".to_owned();
            let verdict = if phase == Phase::Scheduled {
                Verdict::Reconciling("DatabaseUnavailable", message)
            } else {
                Verdict::Stalled("DatabaseUnavailable", message)
            };
            return (phase, verdict);
        }
    };
    match phase {
        Phase::Scheduled => {
            let message = format!("warms up at {}", seconds(timeline.warms_at));
            (phase, Verdict::Ready("Scheduled", message))
        }
        Phase::Closed => {
            let message = format!("closed at {}", seconds(timeline.ends_at));
            (phase, Verdict::Ready("Closed", message))
        }
        _ => {
            let is_open = phase == Phase::Open;
            let shown = if is_open && held_back { Phase::Warming } else { phase };
            (shown, capacity(known, is_open, held_back))
        }
    }
}

fn capacity(known: &Known, is_open: bool, held_back: bool) -> Verdict {
    for Part { name, wanted, found } in &known.parts {
        let Some(found) = found else {
            return Verdict::Stalled("NoAutoscaler", format!("{name}: there is no autoscaler"));
        };
        if found.maximum < *wanted {
            let message = format!("{name}: the maximum is {}, wanted are {wanted}", found.maximum);
            return Verdict::Stalled("MaximumTooLow", message);
        }
    }
    let missing = known.parts.iter().filter_map(|part| {
        let ready = part.found.map_or(0, |found| found.ready);
        (ready < part.wanted).then(|| format!("{}: {ready} of {} ready", part.name, part.wanted))
    });
    let missing: Vec<_> = missing.collect();
    match (missing.is_empty(), is_open) {
        (true, false) => Verdict::Ready("CapacityReady", "all pods are ready".to_owned()),
        (true, true) => Verdict::Ready("Open", "orders are taken".to_owned()),
        (false, false) => Verdict::Reconciling("WaitingForPods", missing.join(", ")),
        (false, true) => {
            let opened = if held_back { "held back" } else { "open all the same" };
            Verdict::Stalled("PodsNotReady", format!("{}; {opened}", missing.join(", ")))
        }
    }
}

/// Takes what was seen into the report; the maxima are kept.
pub fn seen(
    report: &mut Option<Report>,
    numbers: Option<&holdfast_store::SaleReport>,
    depth: Option<u64>,
    workers: i32,
) {
    let report = report.get_or_insert_default();
    if let Some(numbers) = numbers {
        report.sold = numbers.sold;
        report.left = numbers.left;
        report.refused.clone_from(&numbers.refused);
        report.peak_orders_per_second = numbers.peak_orders_per_second;
        report.lock_wait_p99_micros =
            numbers.lock_wait_p99.and_then(|wait| i64::try_from(wait.as_micros()).ok());
    }
    let depth = depth.and_then(|depth| i64::try_from(depth).ok());
    report.highest_depth = report.highest_depth.max(depth);
    report.most_workers = report.most_workers.max(workers);
}

/// As `metav1.Time` has it: to the second.
pub fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn known(found: Option<Found>) -> Known {
        Known {
            timeline: Ok(Timeline { warms_at: at(10), starts_at: at(20), ends_at: at(30) }),
            written: Ok(false),
            parts: vec![Part { name: "workers", wanted: 3, found }],
            generation: Some(1),
        }
    }

    fn told(known: &Known, second: i64) -> (Phase, String, String) {
        let status = status(known, at(second), None);
        let on: Vec<_> = status.conditions.iter().filter(|it| it.status == "True").collect();
        assert_eq!(on.len(), 1, "one of the three holds: {status:?}");
        (status.phase.unwrap(), on[0].kind.clone(), on[0].reason.clone())
    }

    fn is(phase: Phase, kind: &str, reason: &str) -> (Phase, String, String) {
        (phase, kind.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_sale_whose_pods_come_in_time_is_ready_at_each_step() {
        let found = |ready| Some(Found { maximum: 10, ready });
        assert_eq!(told(&known(found(1)), 5), is(Phase::Scheduled, "Ready", "Scheduled"));
        assert_eq!(told(&known(found(1)), 12), is(Phase::Warming, "Reconciling", "WaitingForPods"));
        assert_eq!(told(&known(found(3)), 15), is(Phase::Warming, "Ready", "CapacityReady"));
        assert_eq!(told(&known(found(3)), 20), is(Phase::Open, "Ready", "Open"));
        assert_eq!(told(&known(found(1)), 30), is(Phase::Closed, "Ready", "Closed"));
    }

    #[test]
    fn what_somebody_has_to_mend_is_stalled_with_its_reason() {
        let found = |maximum, ready| Some(Found { maximum, ready });
        assert_eq!(told(&known(None), 12), is(Phase::Warming, "Stalled", "NoAutoscaler"));
        assert_eq!(told(&known(found(2, 2)), 12), is(Phase::Warming, "Stalled", "MaximumTooLow"));
        assert_eq!(told(&known(found(9, 2)), 21), is(Phase::Open, "Stalled", "PodsNotReady"));
        let mut held_back = known(found(9, 2));
        held_back.written = Ok(true);
        assert_eq!(told(&held_back, 21), is(Phase::Warming, "Stalled", "PodsNotReady"));
        let mut bad = known(found(9, 9));
        bad.timeline = Err(TimelineError::Empty);
        assert_eq!(told(&bad, 21), is(Phase::Failed, "Stalled", "InvalidSpec"));
        for (why, second, expected) in [
            (NotWritten::NoDatabase, 5, is(Phase::Failed, "Stalled", "NoDatabase")),
            (
                NotWritten::Unavailable,
                5,
                is(Phase::Scheduled, "Reconciling", "DatabaseUnavailable"),
            ),
            (NotWritten::Unavailable, 12, is(Phase::Warming, "Stalled", "DatabaseUnavailable")),
        ] {
            let mut unwritten = known(found(9, 9));
            unwritten.written = Err(why);
            assert_eq!(told(&unwritten, second), expected);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let found = |ready| Some(Found { maximum: 10, ready });
        let warming = status(&known(found(1)), at(11), None);
        let later = status(&known(found(2)), at(13), Some(&warming));
        let ready = status(&known(found(3)), at(15), Some(&later));
        let since = |status: &FlashSaleStatus, kind: &str| {
            let condition = status.conditions.iter().find(|it| it.kind == kind).unwrap();
            condition.last_transition_time.parse::<Timestamp>().unwrap().as_second()
        };
        assert_eq!((since(&later, "Reconciling"), since(&later, "Ready")), (11, 11));
        assert_eq!((since(&ready, "Ready"), since(&ready, "Stalled")), (15, 11));
    }

    #[test]
    fn maxima_are_kept() {
        let mut report = None;
        seen(&mut report, None, Some(7), 2);
        seen(&mut report, None, None, 5);
        seen(&mut report, None, Some(3), 1);
        let report = report.unwrap();
        assert_eq!((report.highest_depth, report.most_workers), (Some(7), 5));
    }
}
