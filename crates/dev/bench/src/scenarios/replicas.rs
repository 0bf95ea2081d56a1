//! Two API replicas on one database: first on one hot product, which they have to take turns on,
//! then on 1,000.

use super::Bench;
use super::hot::orders;
use super::settings::{CONNECTIONS, PRODUCTS};
use crate::audit::Expectation;
use crate::report::model::part;
use crate::stage::ShopOptions;

const REPLICAS: u32 = 2;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for (part, products) in [(part::HOT, 1), (part::UNIFORM, PRODUCTS)] {
        if products > 1 && bench.round > 1 {
            continue; // no goal is set on it
        }
        for connections in bench.settings.connections(bench.round, &[CONNECTIONS]) {
            if connections < REPLICAS as usize {
                continue;
            }
            let options = ShopOptions { products, replicas: REPLICAS };
            let mut shop = bench.stage.open_shop(options).await?;
            let group = orders(&shop, part, connections);
            let point = bench.closed_loop(&mut shop, part, group).await?;
            bench.record(point);
            bench.close(shop, part, Expectation::default()).await?;
        }
    }
    Ok(())
}
