//! Workers with empty fulfilment: their effect on a hot product, and the throughput of one worker alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::Bench;
use super::measure::{cpu_us, describe};
use super::settings::{CONNECTIONS, PRODUCTS};
use super::work::orders;
use crate::audit::Expectation;
use crate::environment::{BenchFixture, FixtureOptions};
use crate::load::LoadPlan;
use crate::processes::{Usage, memory_mib};
use crate::report::model::{Point, part};

/// The time limit for the workers to finish.
const DRAIN_LIMIT: Duration = Duration::from_mins(3);

/// How long a worker without work is measured.
const IDLE: Duration = Duration::from_secs(2);

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    beside_a_hot_product(bench).await?;
    alone(bench).await
}

async fn beside_a_hot_product(bench: &mut Bench) -> anyhow::Result<()> {
    let mut fixture =
        bench.environment.open_fixture(FixtureOptions { products: 1, replicas: 1 }).await?;
    bench.environment.add_workers(&mut fixture, 2).await?;
    let group = orders(&fixture, part::HOT_DRAINING, CONNECTIONS);
    let mut point = bench.closed_loop(&mut fixture, part::HOT_DRAINING, group).await?;
    let stopped = Instant::now();
    drained(&fixture).await?;
    point.more.insert("rest_drained_after_s".into(), stopped.elapsed().as_secs_f64());
    bench.record(point);
    bench
        .close(
            fixture,
            part::HOT_DRAINING,
            Expectation { all_completed: true, ..Expectation::default() },
        )
        .await
}

async fn alone(bench: &mut Bench) -> anyhow::Result<()> {
    let mut fixture =
        bench.environment.open_fixture(FixtureOptions { products: PRODUCTS, replicas: 1 }).await?;
    let group = orders(&fixture, part::DRAIN, CONNECTIONS);
    let filling = LoadPlan::closed(group, Duration::ZERO, bench.settings.drain_filling);
    let measured = bench.measure(filling, Vec::new()).await?;
    fixture.log.add(&measured.report);

    bench.environment.add_workers(&mut fixture, 1).await?;
    let watched = bench.watched(&fixture).await?;
    let before = Usage::so_far(&watched);
    drained(&fixture).await?;
    let (cpu, others_cpu_percent) = Usage::since(&before, &watched);
    let (orders, seconds) = completed(&fixture).await?;

    let mut point = Point {
        part: part::DRAIN.to_owned(),
        measured_s: seconds,
        cpu_us: cpu_us(&cpu, orders),
        others_cpu_percent,
        memory_mib: memory_mib(&watched)
            .into_iter()
            .map(|(name, mib)| (name.to_owned(), mib))
            .collect(),
        more: [
            ("drained_orders".to_owned(), orders),
            ("drained_orders_per_s".to_owned(), orders / seconds),
        ]
        .into(),
        ..Point::default()
    };
    describe(&fixture, &mut point);

    // All orders are done. What does an idle worker cost?
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = Usage::so_far(&watched);
    tokio::time::sleep(IDLE).await;
    let (mut cpu, _) = Usage::since(&before, &watched);
    let spent = cpu.remove("worker").unwrap_or_default();
    let percent = spent.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    point.more.insert("worker_idle_cpu_percent".into(), percent);
    bench.record(point);
    bench
        .close(fixture, part::DRAIN, Expectation { all_completed: true, ..Expectation::default() })
        .await
}

async fn drained(fixture: &BenchFixture) -> anyhow::Result<()> {
    if !fixture.all_final(DRAIN_LIMIT).await? {
        bail!("the workers have not drained the queue in {DRAIN_LIMIT:?}");
    }
    Ok(())
}

/// The number of completed orders, and the seconds from the first start to the last end, by the clock of the database.
async fn completed(fixture: &BenchFixture) -> anyhow::Result<(f64, f64)> {
    let mut connection = fixture.database_url.parse::<PgConnectOptions>()?.connect().await?;
    let (orders, seconds): (i64, Option<f64>) = sqlx::query_as(
        "SELECT count(*), extract(epoch FROM max(finished_at) - min(processing_at))::float8 \
         FROM orders WHERE status = 'completed'",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    let seconds = seconds.filter(|it| *it > 0.0).context("no order was completed")?;
    Ok((orders as f64, seconds))
}
