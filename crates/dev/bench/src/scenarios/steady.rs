//! One hot product at 70 % of its peak, in an open loop: the latency on a busy day without overload.

use std::time::Duration;

use anyhow::Context as _;

use super::Bench;
use super::settings::CONNECTIONS;
use super::work::{HOT, orders};
use crate::audit::Expectation;
use crate::environment::FixtureOptions;
use crate::load::{ClientGroup, Pace};
use crate::report::model::{Point, part};

const SHARE: f64 = 0.7;

/// How long a request waits for a connection; longer than any wait that is measured.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let per_second = SHARE * peak(bench).await?;
    let mut fixture =
        bench.environment.open_fixture(FixtureOptions { products: 1, replicas: 1 }).await?;
    let pace = Pace::Open { per_second, patience: PATIENCE };
    let group = ClientGroup { pace, ..orders(&fixture, part::STEADY, CONNECTIONS) };
    let mut point = bench.closed_loop(&mut fixture, part::STEADY, group).await?;
    point.offered_per_s = Some(per_second);
    bench.record(point);
    bench.close(fixture, part::STEADY, Expectation::default()).await
}

/// Orders per second of one hot product at 256 connections: the last measured value, or a new measurement.
pub(super) async fn peak(bench: &mut Bench) -> anyhow::Result<f64> {
    let at_peak = |point: &Point| point.replicas == 1 && point.connections as usize == CONNECTIONS;
    if let Some(peak) = bench.run.median(part::HOT, at_peak, |point| point.orders_per_s) {
        return Ok(peak);
    }
    bench.at(HOT, CONNECTIONS).await?;
    bench
        .run
        .median(part::HOT, at_peak, |point| point.orders_per_s)
        .context("the peak was not measured")
}
