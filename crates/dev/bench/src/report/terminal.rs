//! The table at the end of a run.

use std::io::{self, Write};

use super::goals::{GoalResult, goals};
use super::model::{Point, Run};
use super::numbers::figure;

/// Kernel threads and probes use less than this.
const DISTURBED_PERCENT: f64 = 8.0;

/// A line about a point, as progress of a run.
pub fn progress(point: &Point) -> String {
    let mut parts = vec![format!("  {:<18} {:>5} connections", point.part, point.connections)];
    if point.replicas > 1 {
        parts.push(format!("{} replicas", point.replicas));
    }
    for (per_s, what) in [
        (point.orders_per_s, "orders/s"),
        (point.reads_per_s, "reads/s"),
        (point.refused_per_s, "refused/s"),
    ] {
        if per_s > 0.0 {
            parts.push(format!("{:>8} {what}", figure(per_s)));
        }
    }
    let latency = point.latency_ms;
    if latency.p99 > 0.0 {
        parts.push(format!("p50 {} ms, p99 {} ms", figure(latency.p50), figure(latency.p99)));
    } else if latency.mean > 0.0 {
        parts.push(format!("mean {} ms", figure(latency.mean)));
    }
    parts.extend(point.more.iter().map(|(name, value)| format!("{name} {}", figure(*value))));
    if point.others_cpu_percent > DISTURBED_PERCENT {
        parts.push(format!("(others took {:.0} % CPU)", point.others_cpu_percent));
    }
    if point.failed > 0 {
        parts.push(format!("FAILED {}", point.failed));
    }
    parts.join("  ")
}

/// Writes the tables.
///
/// # Errors
/// When `out` fails.
pub fn write(run: &Run, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\n{:<19} {:>8} {:>4} {:>6} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}  CPU µs per answer",
        "part",
        "products",
        "API",
        "conns",
        "orders/s",
        "reads/s",
        "refused/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms"
    )?;
    for point in &run.points {
        let latency = |value: f64| if value > 0.0 { figure(value) } else { "–".to_owned() };
        let rate = |value: f64| if value > 0.0 { figure(value) } else { "–".to_owned() };
        let cpu: Vec<String> =
            point.cpu_us.iter().map(|(name, time)| format!("{name} {}", figure(*time))).collect();
        writeln!(
            out,
            "{:<19} {:>8} {:>4} {:>6} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}  {}",
            point.part,
            point.products,
            point.replicas,
            point.connections,
            rate(point.orders_per_s),
            rate(point.reads_per_s),
            rate(point.refused_per_s),
            latency(point.latency_ms.p50),
            latency(point.latency_ms.p99),
            latency(point.latency_ms.p999),
            cpu.join(", ")
        )?;
    }
    writeln!(out, "\n{:<12} {:>16} {:>10} {:>10}  work", "", "measured", "must", "aim")?;
    for goal in goals(run) {
        let verdict = match goal.verdict() {
            GoalResult::Aim => "aim",
            GoalResult::Must => "must",
            GoalResult::Missed => "MISSED",
            GoalResult::NotMeasured => "not measured",
        };
        writeln!(
            out,
            "{verdict:<12} {:>16} {:>10} {:>10}  {} {}",
            goal.measured.map_or("–".to_owned(), |value| goal.unit.text(value)),
            goal.must.text(goal.unit),
            goal.aim.text(goal.unit),
            goal.work,
            if goal.made_from.is_empty() { String::new() } else { format!("({})", goal.made_from) }
        )?;
    }
    for failure in &run.failures {
        writeln!(out, "\nFAILED: {failure}")?;
    }
    let (median, most) = run.disturbance_percent();
    writeln!(
        out,
        "\nOther processes took {median:.1} % of the processors (median), at most {most:.1} %.{}",
        if median > DISTURBED_PERCENT {
            " These figures are DISTURBED: do not publish them."
        } else {
            ""
        }
    )?;
    let held = run.audits.len();
    match run.violations() {
        0 => writeln!(out, "\n{held} audits: no violation was found."),
        broken => writeln!(out, "\n{held} audits: {broken} VIOLATIONS, see above."),
    }
}
