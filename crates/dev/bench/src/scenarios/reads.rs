//! Reads of products that are in the cache.

use std::sync::Arc;

use super::Bench;
use super::settings::{CONNECTIONS, PRODUCTS};
use crate::audit::Expectation;
use crate::load::{Choice, Group, Pace, Requests};
use crate::report::model::part;
use crate::stage::ShopOptions;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut shop = bench.stage.open_shop(ShopOptions { products: PRODUCTS, replicas: 1 }).await?;
    for connections in bench.settings.connections(bench.round, &[CONNECTIONS]) {
        let group = Group {
            name: part::READS,
            targets: shop.targets(),
            connections,
            requests: Arc::new(Requests::reads(&shop.product_ids, Choice::Uniform)),
            pace: Pace::Closed,
        };
        let point = bench.closed_loop(&mut shop, part::READS, group).await?;
        bench.record(point);
    }
    bench.close(shop, part::READS, Expectation::default()).await
}
