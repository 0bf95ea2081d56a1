//! Computes the status of a FlashSale. Pure.

use holdfast_domain::Sale;
use jiff::Timestamp;

use super::{
    repository::NotWritten,
    resource::{Condition, FlashSaleStatus, Phase, SaleProgress},
    timeline::{Timeline, TimelineError},
};

/// A part of the capacity that a sale wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalePart {
    /// `workers` or `api`, as in the spec.
    pub name: &'static str,
    /// The fewest replicas.
    pub wanted: i32,
    pub found: PartReplicas,
}

/// The state of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartReplicas {
    /// The autoscaler could not be read, for this reason.
    Unknown(String),
    /// There is no autoscaler.
    Nothing,
    /// The autoscaler's maximum, and the number of ready pods.
    Replicas { maximum: i32, ready: i32 },
}

/// The known state of a sale.
#[derive(Clone, Debug)]
pub struct SaleFacts {
    /// The times in its spec.
    pub timeline: Result<Timeline, TimelineError>,
    /// The sale in the database; `None` if there is none, or the database is not available.
    pub written: Option<Sale>,
    /// Why the sale in the database differs from the spec.
    pub problem: Option<NotWritten>,
    /// The capacity that it wants.
    pub parts: Vec<SalePart>,
    /// Whether it stays closed until the capacity has been ready once.
    pub waits: bool,
    /// The generation of its spec.
    pub generation: Option<i64>,
}

/// The conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Summary {
    /// Everything that is due is done.
    Ready(&'static str, String),
    /// It is in progress and needs no intervention.
    Reconciling(&'static str, String),
    /// It needs an intervention.
    Stalled(&'static str, String),
}

/// Whether every part has its pods.
pub fn is_ready(parts: &[SalePart]) -> bool {
    parts.iter().all(|part| part.ready() >= part.wanted)
}

impl SalePart {
    fn ready(&self) -> i32 {
        match self.found {
            PartReplicas::Replicas { ready, .. } => ready,
            _ => 0,
        }
    }
}

/// The status of a sale at a time. The transition times and the report are taken from the previous status.
pub fn status(
    known: &SaleFacts,
    now: Timestamp,
    before: Option<&FlashSaleStatus>,
) -> FlashSaleStatus {
    let (phase, summary) = summarize(known, now, before);
    let flags = match &summary {
        Summary::Ready(..) => [true, false, false],
        Summary::Reconciling(..) => [false, true, false],
        Summary::Stalled(..) => [false, false, true],
    };
    let (Summary::Ready(reason, message)
    | Summary::Reconciling(reason, message)
    | Summary::Stalled(reason, message)) = summary;
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

fn summarize(
    known: &SaleFacts,
    now: Timestamp,
    before: Option<&FlashSaleStatus>,
) -> (Phase, Summary) {
    // The window that the database enforces. The warm-up only concerns the operator.
    let written = known.written.as_ref().map(|sale| {
        let warms_at = known.timeline.as_ref().map_or(sale.starts_at, |spec| spec.warms_at);
        let window = Timeline { warms_at, starts_at: sale.starts_at, ends_at: sale.ends_at };
        (window, sale.held_back)
    });
    if let (Some((window, held_back)), None) = (written, &known.problem) {
        let phase = shown(window.phase(now), held_back);
        return (phase, as_written(known, window, held_back, now));
    }
    let (reason, message) = match known.problem.clone() {
        Some(NotWritten::Invalid { reason, message } | NotWritten::Refused { reason, message }) => {
            (reason, message)
        }
        Some(NotWritten::NoDatabase) => {
            let message = "the operator has no database to record the sale in: set DATABASE_URL";
            ("NoDatabase", message.to_owned())
        }
        Some(NotWritten::Unavailable) | None => {
            let message = "the database is not available; the operator tries again";
            ("DatabaseUnavailable", message.to_owned())
        }
    };
    if let Some((window, held_back)) = written {
        let message = format!("{message}; the previously recorded sale stays in force");
        return (shown(window.phase(now), held_back), Summary::Stalled(reason, message));
    }
    // The database is not available and had this generation, so that is enforced.
    if known.problem == Some(NotWritten::Unavailable)
        && let Ok(window) = &known.timeline
        && let Some(before) = before.filter(|it| it.observed_generation == known.generation)
        && let Some(phase) = before.phase.filter(|phase| !phase.is_not_written())
    {
        let was_ready = before.conditions.iter().any(|it| it.reason == "CapacityReady");
        let was_held_back = known.waits && phase == Phase::Warming && !was_ready;
        let phase = shown(window.phase(now), was_held_back);
        return (phase, Summary::Reconciling(reason, message));
    }
    let phase = match known.problem {
        Some(NotWritten::Invalid { .. }) => Phase::Failed,
        _ => Phase::Stalled,
    };
    (phase, Summary::Stalled(reason, message))
}

/// For a sale that is held back and takes no orders.
fn shown(phase: Phase, held_back: bool) -> Phase {
    if phase == Phase::Open && held_back { Phase::Warming } else { phase }
}

/// For a sale that the database has according to the spec.
fn as_written(known: &SaleFacts, window: Timeline, held_back: bool, now: Timestamp) -> Summary {
    match window.phase(now) {
        Phase::Scheduled => Summary::Ready(
            "Scheduled",
            format!("the warm-up starts at {}", seconds(window.warms_at)),
        ),
        Phase::Closed => Summary::Ready("Closed", format!("closed at {}", seconds(window.ends_at))),
        phase => capacity(known, phase == Phase::Open, held_back),
    }
}

fn capacity(known: &SaleFacts, is_open: bool, held_back: bool) -> Summary {
    for SalePart { name, wanted, found } in &known.parts {
        match found {
            PartReplicas::Unknown(why) => {
                let message = format!("{name}: the autoscaler could not be read: {why}");
                return Summary::Reconciling("AutoscalerUnavailable", message);
            }
            PartReplicas::Nothing => {
                let message = format!("{name}: there is no autoscaler");
                return Summary::Stalled("NoAutoscaler", message);
            }
            PartReplicas::Replicas { maximum, .. } if maximum < wanted => {
                let message = format!(
                    "{name}: the autoscaler's maximum is {maximum}, but the sale needs {wanted}"
                );
                return Summary::Stalled("MaximumTooLow", message);
            }
            PartReplicas::Replicas { .. } => {}
        }
    }
    let missing: Vec<_> = known
        .parts
        .iter()
        .filter(|part| part.ready() < part.wanted)
        .map(|part| format!("{}: {} of {} ready", part.name, part.ready(), part.wanted))
        .collect();
    match (missing.is_empty(), is_open) {
        (true, false) => Summary::Ready("CapacityReady", "all pods are ready".to_owned()),
        (true, true) => Summary::Ready("Open", "orders are accepted".to_owned()),
        (false, false) => Summary::Reconciling("WaitingForPods", missing.join(", ")),
        (false, true) => {
            let opened = if held_back { "the sale is held back" } else { "the sale is open" };
            Summary::Stalled("PodsNotReady", format!("{}; {opened}", missing.join(", ")))
        }
    }
}

/// Adds the current values to the report; maximums are kept.
pub fn seen(
    report: &mut Option<SaleProgress>,
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

/// In the format of `metav1.Time`, in whole seconds.
pub fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use holdfast_domain::SaleName;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sale(held_back: bool) -> Sale {
        Sale {
            name: SaleName::new("shop/a".to_owned()).unwrap(),
            products: BTreeSet::new(),
            starts_at: at(20),
            ends_at: at(30),
            per_customer: None,
            held_back,
        }
    }

    fn known(found: PartReplicas) -> SaleFacts {
        SaleFacts {
            timeline: Ok(Timeline { warms_at: at(10), starts_at: at(20), ends_at: at(30) }),
            written: Some(sale(false)),
            problem: None,
            parts: vec![SalePart { name: "workers", wanted: 3, found }],
            waits: false,
            generation: Some(1),
        }
    }

    fn ready(ready: i32) -> PartReplicas {
        PartReplicas::Replicas { maximum: 10, ready }
    }

    fn told_after(
        known: &SaleFacts,
        second: i64,
        before: Option<&FlashSaleStatus>,
    ) -> (Phase, String, String) {
        let status = status(known, at(second), before);
        let on: Vec<_> = status.conditions.iter().filter(|it| it.status == "True").collect();
        assert_eq!(on.len(), 1, "one of the three holds: {status:?}");
        (status.phase.unwrap(), on[0].kind.clone(), on[0].reason.clone())
    }

    fn told(known: &SaleFacts, second: i64) -> (Phase, String, String) {
        told_after(known, second, None)
    }

    fn is(phase: Phase, kind: &str, reason: &str) -> (Phase, String, String) {
        (phase, kind.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_sale_whose_pods_start_in_time_is_ready_in_each_phase() {
        let at = |second, count| told(&known(ready(count)), second);
        assert_eq!(at(5, 1), is(Phase::Scheduled, "Ready", "Scheduled"));
        assert_eq!(at(12, 1), is(Phase::Warming, "Reconciling", "WaitingForPods"));
        assert_eq!(at(15, 3), is(Phase::Warming, "Ready", "CapacityReady"));
        assert_eq!(at(20, 3), is(Phase::Open, "Ready", "Open"));
        assert_eq!(at(30, 1), is(Phase::Closed, "Ready", "Closed"));
    }

    #[test]
    fn missing_capacity_stalls_the_sale_with_a_reason() {
        let few = PartReplicas::Replicas { maximum: 2, ready: 2 };
        assert_eq!(
            told(&known(PartReplicas::Nothing), 12),
            is(Phase::Warming, "Stalled", "NoAutoscaler")
        );
        assert_eq!(told(&known(few), 12), is(Phase::Warming, "Stalled", "MaximumTooLow"));
        assert_eq!(told(&known(ready(2)), 21), is(Phase::Open, "Stalled", "PodsNotReady"));
        let unknown = known(PartReplicas::Unknown("no answer".to_owned()));
        assert_eq!(told(&unknown, 21), is(Phase::Open, "Reconciling", "AutoscalerUnavailable"));
        let held_back = SaleFacts { written: Some(sale(true)), ..known(ready(2)) };
        assert_eq!(told(&held_back, 21), is(Phase::Warming, "Stalled", "PodsNotReady"));
    }

    fn invalid() -> NotWritten {
        let message = TimelineError::Empty.to_string();
        NotWritten::Invalid { reason: "InvalidSpec", message }
    }

    #[test]
    fn a_sale_that_is_not_recorded_is_never_shown_as_open() {
        let refused = NotWritten::Refused { reason: "TooManySales", message: String::new() };
        for second in [5, 12, 21, 31] {
            for (problem, phase, reason) in [
                (NotWritten::NoDatabase, Phase::Stalled, "NoDatabase"),
                (NotWritten::Unavailable, Phase::Stalled, "DatabaseUnavailable"),
                (refused.clone(), Phase::Stalled, "TooManySales"),
                (invalid(), Phase::Failed, "InvalidSpec"),
            ] {
                let known = SaleFacts { written: None, problem: Some(problem), ..known(ready(9)) };
                assert_eq!(told(&known, second), is(phase, "Stalled", reason));
            }
        }
    }

    #[test]
    fn the_previously_recorded_sale_stays_in_force_and_is_shown() {
        let known = SaleFacts { problem: Some(invalid()), ..known(ready(9)) };
        assert_eq!(told(&known, 21), is(Phase::Open, "Stalled", "InvalidSpec"));
    }

    #[test]
    fn a_recorded_sale_continues_while_the_database_is_not_available() {
        let lost =
            SaleFacts { written: None, problem: Some(NotWritten::Unavailable), ..known(ready(9)) };
        let reason = "DatabaseUnavailable";
        let before = status(&known(ready(9)), at(15), None);
        let told = told_after(&lost, 21, Some(&before));
        assert_eq!(told, is(Phase::Open, "Reconciling", reason));
        let held_back =
            status(&SaleFacts { written: Some(sale(true)), ..known(ready(1)) }, at(21), None);
        let told = told_after(&SaleFacts { waits: true, ..lost.clone() }, 22, Some(&held_back));
        assert_eq!(told, is(Phase::Warming, "Reconciling", reason));
        let edited = SaleFacts { generation: Some(2), ..lost };
        let told = told_after(&edited, 21, Some(&before));
        assert_eq!(told, is(Phase::Stalled, "Stalled", reason));
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let warming = status(&known(ready(1)), at(11), None);
        let later = status(&known(ready(2)), at(13), Some(&warming));
        let ready = status(&known(ready(3)), at(15), Some(&later));
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
