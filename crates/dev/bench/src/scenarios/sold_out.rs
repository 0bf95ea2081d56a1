//! One product that is sold out while all clients order it. Then some units are added.
//!
//! Refusals should cost less than orders, and the new units should be sold at once.

use anyhow::{Context as _, bail};
use holdfast_sandbox::http_put_json;
use serde_json::json;

use super::Bench;
use super::measure::describe;
use super::settings::CONNECTIONS;
use super::work::orders;
use crate::audit::Expectation;
use crate::environment::FixtureOptions;
use crate::load::{LoadPlan, TICK};
use crate::report::model::part;

/// The number of units that are added.
const UNITS: u32 = 500;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut fixture =
        bench.environment.open_fixture(FixtureOptions { products: 1, replicas: 1 }).await?;
    let target = *fixture.targets().first().context("a fixture without a replica")?;
    let id = *fixture.product_ids.first().context("a fixture without a product")?;
    let product = format!("http://{target}/products/{id}");
    set_stock(&product, json!({ "stock": 0 })).await?;

    let (warm_up, half) = (bench.settings.warm_up, bench.settings.measured);
    let refusing = LoadPlan::closed(orders(&fixture, part::SOLD_OUT, CONNECTIONS), warm_up, half);
    let measured = bench.measure(refusing, bench.watched(&fixture).await?).await?;
    let mut point = measured.point(part::SOLD_OUT)?;
    point.connections = CONNECTIONS as u32;
    describe(&fixture, &mut point);
    let group = measured.report.groups.first().context("a plan without groups")?;
    point.more.insert("sold_out_per_s".into(), group.sold_out_per_s());
    fixture.log.add(&measured.report);

    // They are added under the same load, with enough time to sell them all.
    let plan = LoadPlan::closed(orders(&fixture, part::SOLD_OUT, CONNECTIONS), warm_up, half * 4);
    let restocking = async {
        tokio::time::sleep(warm_up + half / 2).await;
        set_stock(&product, json!({ "stock_change": UNITS })).await
    };
    let (measured, restocked) = tokio::join!(bench.measure(plan, Vec::new()), restocking);
    restocked?;
    let measured = measured?;
    let group = measured.report.groups.first().context("a plan without groups")?;
    if group.accepted.len() != UNITS as usize {
        bail!("{} orders of {UNITS} added units", group.accepted.len());
    }
    let sold_in = group.timeline.iter().filter(|tick| tick.orders > 0).count();
    point.more.insert("sold_again_within_s".into(), sold_in as f64 * TICK.as_secs_f64());
    fixture.log.add(&measured.report);
    fixture.log.initial_stock.insert(id, UNITS.into());
    bench.record(point);
    bench.close(fixture, part::SOLD_OUT, Expectation::default()).await
}

async fn set_stock(product: &str, body: serde_json::Value) -> anyhow::Result<()> {
    let answer = http_put_json(product, &body).await?;
    if answer.status != 200 {
        bail!("the stock could not be changed: {} {}", answer.status, answer.body);
    }
    Ok(())
}
