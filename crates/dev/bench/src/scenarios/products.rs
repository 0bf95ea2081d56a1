//! Orders of 1,000 products, workers stopped.

use std::sync::Arc;

use super::Bench;
use super::settings::{CONNECTIONS, PRODUCTS};
use crate::audit::Expectation;
use crate::load::{Choice, Group, Pace, Requests};
use crate::report::model::part;
use crate::stage::ShopOptions;

pub async fn uniform(bench: &mut Bench) -> anyhow::Result<()> {
    run(bench, part::UNIFORM, Choice::Uniform).await
}

pub async fn zipf(bench: &mut Bench) -> anyhow::Result<()> {
    run(bench, part::ZIPF, Choice::Zipf { exponent: 1.1 }).await
}

async fn run(bench: &mut Bench, part: &'static str, choice: Choice) -> anyhow::Result<()> {
    for connections in bench.settings.connections(bench.round, &[CONNECTIONS]) {
        let options = ShopOptions { products: PRODUCTS, replicas: 1 };
        let mut shop = bench.stage.open_shop(options).await?;
        let group = Group {
            name: part,
            targets: shop.targets(),
            connections,
            requests: Arc::new(Requests::orders(&shop.product_ids, choice)),
            pace: Pace::Closed,
        };
        let point = bench.closed_loop(&mut shop, part, group).await?;
        bench.record(point);
        bench.close(shop, part, Expectation::default()).await?;
    }
    Ok(())
}
