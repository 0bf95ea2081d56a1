//! One hot product, and an `Idempotency-Key` with each order: what does being done once cost?

use std::sync::Arc;

use super::Bench;
use super::hot::orders;
use super::settings::CONNECTIONS;
use crate::audit::Expectation;
use crate::load::{Choice, Group, Requests};
use crate::report::model::part;
use crate::stage::ShopOptions;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut shop = bench.stage.open_shop(ShopOptions { products: 1, replicas: 1 }).await?;
    let requests = Requests::orders(&shop.product_ids, Choice::Uniform).with_keys();
    let group = Group { requests: Arc::new(requests), ..orders(&shop, part::KEYS, CONNECTIONS) };
    let point = bench.closed_loop(&mut shop, part::KEYS, group).await?;
    bench.record(point);
    bench.close(shop, part::KEYS, Expectation::default()).await
}
