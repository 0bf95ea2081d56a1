//! One hot product at three times its peak, in an open loop: what happens to requests that are refused, and how long it
//! takes to recover.
//!
//! The clients have more connections than a lane has places. Otherwise, requests would wait in the clients for a
//! connection and never be refused. The clients share the processors with the servers, so requests that they cannot
//! send in time count as unsent, and the load is at most what the machine can produce.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Bench;
use super::measure::describe;
use super::probe::{Liveness, PeakMemory};
use super::settings::CONNECTIONS;
use super::steady::peak;
use super::work::orders;
use crate::audit::Expectation;
use crate::environment::{BenchFixture, FixtureOptions};
use crate::load::{ClientGroup, LoadPlan, Pace, TICK};
use crate::report::model::{Point, part};

const TIMES: f64 = 3.0;

/// More than the places of a lane (4,096 by default) and of a batch.
const CLIENTS: usize = 6_144;

/// Other open files of the API: connections to PostgreSQL and Redis, logs.
const OTHER_FILES: u64 = 256;

/// Customers try again after a second, so this request is obsolete by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the recovery is measured.
const AFTERWARDS: Duration = Duration::from_secs(3);

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let needed = CLIENTS as u64 + OTHER_FILES;
    if bench.environment.open_files < needed {
        bail!(
            "a process may open {} files, and {needed} are needed: see ulimit -n",
            bench.environment.open_files
        );
    }
    let peak = peak(bench).await?;
    let mut fixture =
        bench.environment.open_fixture(FixtureOptions { products: 1, replicas: 1 }).await?;
    let target = *fixture.targets().first().context("a fixture without a replica")?;
    let api = fixture.watched().first().context("a fixture without a process")?.pid;

    let pace = Pace::Open { per_second: TIMES * peak, patience: PATIENCE };
    let group = ClientGroup { pace, ..orders(&fixture, part::OVERLOAD, CLIENTS) };
    let plan = LoadPlan::closed(group, bench.settings.warm_up, bench.settings.overload);
    let liveness = Liveness::watch(target)?;
    let memory = PeakMemory::watch(api)?;
    let measured = bench.measure(plan, bench.watched(&fixture).await?).await?;
    let memory_mib = memory.stop();
    let liveness = liveness.stop();
    fixture.log.add(&measured.report);

    let mut point = measured.point(part::OVERLOAD)?;
    point.connections = CLIENTS as u32;
    point.offered_per_s = Some(TIMES * peak);
    describe(&fixture, &mut point);
    let group = measured.report.groups.first().context("a plan without groups")?;
    let (recovered_s, normal) = afterwards(bench, &mut fixture).await?;
    for (name, value) in [
        ("peak_orders_per_s", peak),
        ("sent_per_s", (group.offered - group.unsent) as f64 / group.seconds),
        ("refused_without_retry_after", group.refused_without_retry_after as f64),
        ("refused_from_due_p99_ms", group.refused.quantile_ms(0.99)),
        ("refused_p99_ms", group.refused_from_sending.quantile_ms(0.99)),
        ("api_peak_memory_mib", memory_mib),
        ("livez_probes", f64::from(liveness.probes)),
        ("livez_failed", f64::from(liveness.failed)),
        ("livez_max_ms", liveness.slowest.as_secs_f64() * 1e3),
        ("drained_after_s", measured.report.drain.as_secs_f64()),
        ("recovered_after_s", measured.report.drain.as_secs_f64() + recovered_s),
        ("afterwards_p99_ms", normal.latency_ms.p99),
    ] {
        point.more.insert(name.to_owned(), value);
    }
    bench.record(point);
    bench.close(fixture, part::OVERLOAD, Expectation::default()).await
}

/// A light load directly after the heavy one. Returns the seconds until the last tenth of a second with an error or
/// without an order, and the figures of the light load.
async fn afterwards(bench: &Bench, fixture: &mut BenchFixture) -> anyhow::Result<(f64, Point)> {
    let group = orders(fixture, "afterwards", CONNECTIONS / 32);
    let plan = LoadPlan::closed(group, Duration::ZERO, AFTERWARDS);
    let measured = bench.measure(plan, Vec::new()).await?;
    fixture.log.add(&measured.report);
    let group = measured.report.groups.first().context("a plan without groups")?;
    // The last step may be shorter.
    let steps = group.timeline.split_last().map_or(&[][..], |(_, steps)| steps);
    let bad = steps.iter().rposition(|tick| tick.orders == 0 || tick.refused > 0);
    let seconds = bad.map_or(0.0, |step| (step + 1) as f64 * TICK.as_secs_f64());
    Ok((seconds, measured.point("afterwards")?))
}
