//! One hot product, workers stopped.

use std::sync::Arc;

use super::Bench;
use super::settings::CONNECTIONS;
use crate::audit::Expectation;
use crate::load::{Choice, Group, Pace, Requests};
use crate::report::model::part;
use crate::stage::{Shop, ShopOptions};

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for connections in bench.settings.connections(bench.round, &[1, 32, CONNECTIONS, 1_024]) {
        // A shop for each, so that none has the rows of the one before.
        let options = ShopOptions { products: 1, replicas: 1 };
        let mut shop = bench.stage.open_shop(options).await?;
        let group = orders(&shop, part::HOT, connections);
        let point = bench.closed_loop(&mut shop, part::HOT, group).await?;
        bench.record(point);
        bench.close(shop, part::HOT, Expectation::default()).await?;
    }
    Ok(())
}

/// Clients that order a shop's products, all alike.
pub(super) fn orders(shop: &Shop, name: &'static str, connections: usize) -> Group {
    Group {
        name,
        targets: shop.targets(),
        connections,
        requests: Arc::new(Requests::orders(&shop.product_ids, Choice::Uniform)),
        pace: Pace::Closed,
    }
}
