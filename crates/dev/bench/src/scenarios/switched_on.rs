//! One hot product, with what a shop may switch on: keys that are asked for, traces that are sent.
//! What does each cost?

use std::sync::Arc;

use anyhow::Context as _;

use super::Bench;
use super::hot::orders;
use super::settings::CONNECTIONS;
use crate::audit::Expectation;
use crate::load::{Choice, Group, Requests};
use crate::report::model::part;
use crate::stage::{Extra, Nothing, Shop, ShopOptions};

const OPTIONS: ShopOptions = ShopOptions { products: 1, replicas: 1 };

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    // With a limit that is far away, which must be counted all the same.
    let shop = bench.stage.open_shop_with(OPTIONS, Extra::Access).await?;
    let key = shop.key.as_deref().context("the shop has no key")?;
    let requests = Requests::orders(&shop.product_ids, Choice::Uniform).with_bearer(key);
    measure(bench, shop, part::ACCESS, Some(requests)).await?;

    let collector = Nothing::start().await?;
    for (part, ratio) in [(part::TRACED, "0.01"), (part::ALL_TRACED, "1")] {
        let extra = Extra::Traces { collector: collector.address(), ratio };
        let shop = bench.stage.open_shop_with(OPTIONS, extra).await?;
        measure(bench, shop, part, None).await?;
    }
    collector.stop().await
}

async fn measure(
    bench: &mut Bench,
    mut shop: Shop,
    part: &'static str,
    requests: Option<Requests>,
) -> anyhow::Result<()> {
    let mut group = orders(&shop, part, CONNECTIONS);
    if let Some(requests) = requests {
        group = Group { requests: Arc::new(requests), ..group };
    }
    let point = bench.closed_loop(&mut shop, part, group).await?;
    bench.record(point);
    bench.close(shop, part, Expectation::default()).await
}
