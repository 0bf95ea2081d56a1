//! `docs/benchmarks.md`, written from a run.

use std::fmt::{self, Write as _};

use super::goals::{Goal, GoalResult, goals};
use super::model::{Point, Run, median, part};
use super::numbers::{figure, thousands};

/// The page.
pub fn render(run: &Run) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut page, run);
    page
}

fn write_page(out: &mut String, run: &Run) -> fmt::Result {
    let Run { command, started_at, duration_s, machine, .. } = run;
    let (disturbance, _) = run.disturbance_percent();
    let rounds = run.points.iter().map(|point| point.round).max().unwrap_or(0);
    writeln!(
        out,
        "# Benchmarks\n\n\
         <!-- Written by the benchmark itself; a change by hand is lost with the next run. -->\n\n\
         Written by `{command}` on {started_at}, in {:.0} minutes; rounds: {rounds}. Load \
         generator, API, worker, PostgreSQL and Redis shared {} processors ({}, {:.0} GiB, Linux \
         {}); what else ran there took {disturbance:.0} % of them. What holds on another machine \
         are the ratios, for everything was measured in the same run: type the command there to \
         have its own page. `make bench QUICK=1` gives most of it in under three minutes.\n\n\
         ![Orders per second against connections](benchmarks.svg)\n",
        duration_s / 60.0,
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
    )?;
    write_goals(out, run)?;
    write_parts(out, run)?;
    write_overload(out, run)?;
    write_cpu(out, run)?;
    write_memory(out, run)?;
    write_audits(out, run)?;
    write_method(out, run)
}

fn write_goals(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(
        out,
        "## Goals\n\n\
         Medians over the rounds; a ratio is one of medians. \"No loss\" is 0.98 or more, for \
         rounds differ by as much.\n\n\
         | work | must | aim | measured | |\n|---|---|---|---|---|"
    )?;
    for goal in goals(run) {
        let Goal { work, must, aim, measured, unit, made_from } = &goal;
        let verdict = match goal.verdict() {
            GoalResult::Aim => "aim reached",
            GoalResult::Must => "reached",
            GoalResult::Missed => "**missed**",
            GoalResult::NotMeasured => "not measured",
        };
        let measured = measured.map_or_else(|| "–".to_owned(), |value| unit.text(value));
        let made_from =
            if made_from.is_empty() { String::new() } else { format!(" ({made_from})") };
        writeln!(
            out,
            "| {work} | {} | {} | **{measured}**{made_from} | {verdict} |",
            must.text(*unit),
            aim.text(*unit),
        )?;
    }
    writeln!(out)
}

/// Parts of a closed or open loop, as one table each.
const PARTS: [(&str, &str); 14] = [
    (part::HOT, "Holdfast: one hot product"),
    (part::UNIFORM, "Holdfast: 1,000 products, all alike"),
    (part::ZIPF, "Holdfast: 1,000 products by Zipf's law, exponent 1.1"),
    (part::MIX, "Holdfast: 95 reads for five orders, 1,000 products by Zipf's law"),
    (part::READS, "Holdfast: reads of 1,000 cached products"),
    (part::HOT_DRAINING, "Holdfast: one hot product while two workers drain"),
    (part::ROW_LOCKED, "Holdfast: 999 products, another session holds the row of one more"),
    (
        part::ROWS_LOCKED,
        "Holdfast: 1,000 products, another session holds rows of 30 more, of 2,000 orders and of 8 keys",
    ),
    (
        part::ROWS_LOCKED_HOT,
        "Holdfast: one hot product on two replicas, another session holds the same rows",
    ),
    (part::STEADY, "Holdfast: one hot product at 70 % of the peak, open loop"),
    (part::NOTHING_POST, "A POST that does nothing"),
    (part::NOTHING_GET, "A GET that does nothing"),
    (part::PGBENCH_CTE, "pgbench: one statement"),
    (part::PGBENCH_FOR_UPDATE, "pgbench: `SELECT … FOR UPDATE` transaction"),
];

fn write_parts(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(
        out,
        "## Throughput and latency\n\n\
         Latencies in ms: from sending in a closed loop, from the moment a request was due in an \
         open one. pgbench knows the mean only.\n"
    )?;
    for (part, title) in PARTS {
        let groups = groups(run, part);
        if groups.is_empty() {
            continue;
        }
        writeln!(
            out,
            "**{title}**\n\n\
             | products | API replicas | connections | orders/s | reads/s | mean | p50 | p99 | p99.9 |\n\
             |--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for points in &groups {
            let Some(first) = points.first() else { continue };
            let of = |value: fn(&Point) -> f64| shown(points, value);
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                count(first.products),
                count(first.replicas),
                count(first.connections),
                of(|point| point.orders_per_s),
                of(|point| point.reads_per_s),
                of(|point| point.latency_ms.mean),
                of(|point| point.latency_ms.p50),
                of(|point| point.latency_ms.p99),
                of(|point| point.latency_ms.p999),
            )?;
        }
        writeln!(out)?;
    }
    let drained = |name: &'static str| {
        run.median(
            part::DRAIN,
            |_| true,
            move |point| point.more.get(name).copied().unwrap_or(f64::NAN),
        )
    };
    if let (Some(per_s), Some(orders), Some(idle)) = (
        drained("drained_orders_per_s"),
        drained("drained_orders"),
        drained("worker_idle_cpu_percent"),
    ) {
        writeln!(
            out,
            "One worker with empty fulfilment drains {} orders/s from a queue of {}, API idle. \
             Without work it takes {idle:.1} % of a processor.\n",
            figure(per_s),
            figure(orders),
        )?;
    }
    Ok(())
}

fn write_overload(out: &mut String, run: &Run) -> fmt::Result {
    let Some(point) = run.points(part::OVERLOAD, |_| true).next() else { return Ok(()) };
    let more = |name: &str| figure(point.more.get(name).copied().unwrap_or(0.0));
    writeln!(
        out,
        "## Overload\n\n\
         One hot product, {} orders/s due for {:.0} s, three times the peak, on {} connections. \
         The generator could send {} of them per second before its customers lost patience (after \
         a second without a free connection): it shares the processors with the servers.\n\n\
         | | |\n|---|--:|\n\
         | accepted orders/s (peak: {}) | {} |\n\
         | refused with 503 per second | {} |\n\
         | refusal from sending, p50 / p99 / slowest | {} / {} / {} ms |\n\
         | accepted order from the moment it was due, p50 / p99 | {} / {} ms |\n\
         | refusals without `Retry-After` | {} |\n\
         | other answers, and requests without one | {} |\n\
         | probes of `/livez` that failed, of all; the slowest | {} of {}; {} ms |\n\
         | most memory of the API | {} MiB |\n\
         | last answer after the load stopped | {} s |\n\
         | all normal after the load stopped | {} s |\n",
        figure(point.offered_per_s.unwrap_or(0.0)),
        point.measured_s,
        count(point.connections),
        more("sent_per_s"),
        more("peak_orders_per_s"),
        figure(point.orders_per_s),
        figure(point.refused_per_s),
        figure(point.refused_latency_ms.p50),
        figure(point.refused_latency_ms.p99),
        figure(point.refused_latency_ms.max),
        figure(point.latency_ms.p50),
        figure(point.latency_ms.p99),
        more("refused_without_retry_after").trim_end_matches(".00"),
        point.failed,
        more("livez_failed").trim_end_matches(".00"),
        more("livez_probes").trim_end_matches(".00"),
        more("livez_max_ms"),
        more("api_peak_memory_mib"),
        more("drained_after_s"),
        more("recovered_after_s"),
    )
}

/// Parts whose costs are compared, at 256 connections.
const COSTS: [(&str, &str, u32); 6] = [
    (part::HOT, "one hot product", 1),
    (part::HOT, "one hot product, two replicas", 2),
    (part::HOT_DRAINING, "one hot product, two workers drain", 1),
    (part::UNIFORM, "1,000 products", 1),
    (part::READS, "read of a cached product", 1),
    (part::DRAIN, "worker alone, each order drained", 1),
];

fn write_cpu(out: &mut String, run: &Run) -> fmt::Result {
    writeln!(
        out,
        "## CPU time of one order\n\n\
         In µs for each answer, at 256 connections; user and kernel time by process, all replicas, \
         workers and PostgreSQL's processes together. pgbench's row is at its best number of \
         clients.\n\n\
         | work | load generator | API | PostgreSQL | Redis | worker |\n|---|--:|--:|--:|--:|--:|"
    )?;
    for (part, title, replicas) in COSTS {
        let points: Vec<&Point> = run
            .points(part, |point| {
                point.replicas == replicas && (point.connections == 256 || part == part::DRAIN)
            })
            .collect();
        if points.is_empty() {
            continue;
        }
        write!(out, "| {title} |")?;
        for name in ["load generator", "API", "PostgreSQL", "Redis", "worker"] {
            let cost = |point: &Point| point.cpu_us.get(name).copied().unwrap_or(0.0);
            write!(out, " {} |", shown(&points, cost))?;
        }
        writeln!(out)?;
    }
    for (products, title) in
        [(1, "pgbench, one statement, one row"), (1_000, "pgbench, one statement, 1,000 rows")]
    {
        let best = run
            .points(part::PGBENCH_CTE, |point| point.products == products)
            .max_by(|one, other| one.orders_per_s.total_cmp(&other.orders_per_s));
        let Some(best) = best else { continue };
        let cost = |name: &str| figure(best.cpu_us.get(name).copied().unwrap_or(0.0));
        writeln!(out, "| {title} | {} | – | {} | – | – |", cost("pgbench"), cost("PostgreSQL"))?;
    }
    writeln!(out)
}

fn write_memory(out: &mut String, run: &Run) -> fmt::Result {
    let points: Vec<&Point> =
        run.points(part::HOT, |point| point.replicas == 1 && point.round == 1).collect();
    if points.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "## Memory\n\n\
         In MiB at the end of a run with one hot product: resident set; PostgreSQL's processes \
         together, what they share counted once.\n\n\
         | connections | API | PostgreSQL | Redis |\n|--:|--:|--:|--:|"
    )?;
    for point in points {
        let mib = |name: &str| figure(point.memory_mib.get(name).copied().unwrap_or(0.0));
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            count(point.connections),
            mib("API"),
            mib("PostgreSQL"),
            mib("Redis")
        )?;
    }
    writeln!(out)
}

fn write_audits(out: &mut String, run: &Run) -> fmt::Result {
    let orders: i64 = run.audits.iter().map(|audit| audit.findings.orders).sum();
    let cut_off: u64 = run.audits.iter().map(|audit| audit.findings.cut_off).sum();
    writeln!(
        out,
        "## Audits\n\n\
         After each part `holdfast-bench audit` proved from the database and the clients' own log \
         that no product was oversold, that each order answered with 201 is there as it was asked \
         for and no other, and, where workers ran, that each was completed. {} audits over {} \
         orders, of which {cut_off} were cut off without an answer: {}.\n",
        run.audits.len(),
        thousands(orders.unsigned_abs()),
        match run.violations() {
            0 => "every promise held".to_owned(),
            broken => format!("**{broken} broken promises**"),
        },
    )?;
    for audit in run.audits.iter().filter(|audit| !audit.findings.hold()) {
        for violation in &audit.findings.violations {
            writeln!(out, "- {}, round {}: {violation}", audit.part, audit.round)?;
        }
    }
    Ok(())
}

fn write_method(out: &mut String, run: &Run) -> fmt::Result {
    let machine = &run.machine;
    writeln!(
        out,
        "## How it is measured\n\n\
         - Release builds with the settings they are shipped with, on a private PostgreSQL {} \
         (`fsync`, `synchronous_commit` and `full_page_writes` on; {}) and a private Redis {} \
         without persistence. Writing and flushing a page of 8 KiB took {:.0} µs.\n\
         - Each measurement has a warm-up, and a database of its own with our tables and indexes; \
         pgbench works on the same server, tables and indexes, with prepared statements, over the \
         same loopback TCP.\n\
         - \"`SELECT … FOR UPDATE` transaction\" is `BEGIN`, select for update, update, insert, \
         `COMMIT`; \"one statement\" is an update and an insert in one data-modifying CTE.\n\
         - The do-nothing server is the same HTTP stack without anything behind it: it reads and \
         discards the body of a POST and answers as many bytes as an order's answer has.\n\
         - The load generator ([`crates/dev/bench`](../crates/dev/bench/src/load.rs)) takes less CPU \
         time for a request than wrk with a Lua script. In a closed loop each connection sends \
         when it has its answer. In an open loop requests are due at a fixed rate, and latency \
         counts from then, so that a stall counts for all who would have come in it (coordinated \
         omission).\n\
         - Baselines and ours alternate from round to round, so that a machine that changes its \
         speed changes it for both.\n\
         - While a row is locked by another session, the clients that want it have 16 connections \
         of their own; the others are compared with themselves before and after.\n\
         - The worker's rate is from the first order begun to the last finished, by the database's \
         clock.",
        machine.postgres,
        machine.postgres_settings.join(", "),
        machine.redis,
        machine.flush_us,
    )
}

/// Points of a part that differ in the round only, in the order of their first.
fn groups<'a>(run: &'a Run, part: &'a str) -> Vec<Vec<&'a Point>> {
    let mut groups: Vec<Vec<&Point>> = Vec::new();
    for point in run.points(part, |_| true) {
        let key = |point: &Point| (point.products, point.replicas, point.connections);
        match groups.iter_mut().find(|group| group.first().is_some_and(|it| key(it) == key(point)))
        {
            Some(group) => group.push(point),
            None => groups.push(vec![point]),
        }
    }
    groups
}

/// The median as a figure, or a dash where there is nothing.
fn shown(points: &[&Point], value: impl Fn(&Point) -> f64) -> String {
    match median(points.iter().map(|point| value(point)).collect()) {
        Some(value) if value > 0.0 => figure(value),
        _ => "–".to_owned(),
    }
}

fn count(value: u32) -> String {
    if value == 0 { "–".to_owned() } else { thousands(u64::from(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::tests::sample;

    #[test]
    fn the_page_has_the_goals_with_their_figures_and_the_command() {
        let page = render(&sample());
        assert!(page.contains("Written by `make bench`"), "{page}");
        assert!(
            page.contains("≥ 12 × | ≥ 20 × | **20.0 ×** (40,000 / 2,000 per s) | aim reached"),
            "{page}"
        );
        assert!(page.contains("| – | ≥ 0.5 × |"), "no bound is shown as none: {page}");
        assert!(page.contains("not measured"), "what the run left out is not passed over");
        assert!(!page.contains("NaN") && !page.contains("inf "), "{page}");
    }

    #[test]
    fn a_violated_guarantee_is_on_the_page() {
        let mut run = sample();
        run.audits[0].findings.violations.push("product 1: oversold".into());
        let page = render(&run);
        assert!(page.contains("**1 broken promises**") && page.contains("product 1: oversold"));
    }
}
