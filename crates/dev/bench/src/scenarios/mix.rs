//! 95 reads for five orders, on 1,000 products by Zipf's law: a shop on an ordinary day.

use std::sync::Arc;

use super::Bench;
use super::settings::{CONNECTIONS, PRODUCTS};
use crate::audit::Expectation;
use crate::load::{Choice, Group, Pace, Requests};
use crate::report::model::part;
use crate::stage::ShopOptions;

const READS: f64 = 0.95;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for connections in bench.settings.connections(bench.round, &[CONNECTIONS]) {
        let options = ShopOptions { products: PRODUCTS, replicas: 1 };
        let mut shop = bench.stage.open_shop(options).await?;
        let choice = Choice::Zipf { exponent: 1.1 };
        let group = Group {
            name: part::MIX,
            targets: shop.targets(),
            connections,
            requests: Arc::new(Requests::mix(&shop.product_ids, choice, READS)),
            pace: Pace::Closed,
        };
        let point = bench.closed_loop(&mut shop, part::MIX, group).await?;
        bench.record(point);
        bench.close(shop, part::MIX, Expectation::default()).await?;
    }
    Ok(())
}
