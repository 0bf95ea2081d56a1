//! One hot product with optional features of the API: the cost of API keys and of traces.

use std::sync::Arc;

use anyhow::Context as _;

use super::Bench;
use super::settings::CONNECTIONS;
use super::work::orders;
use crate::audit::Expectation;
use crate::environment::{BenchFixture, Extra, FixtureOptions, Nothing};
use crate::load::{Choice, Requests};
use crate::report::model::part;

const OPTIONS: FixtureOptions = FixtureOptions { products: 1, replicas: 1 };

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    // With a limit that is never reached but must be counted.
    let fixture = bench.environment.open_fixture_with(OPTIONS, Extra::Access).await?;
    let key = fixture.key.as_deref().context("the fixture has no key")?;
    let requests = Requests::orders(&fixture.product_ids, Choice::Uniform).with_bearer(key);
    measure(bench, fixture, part::ACCESS, Some(requests)).await?;

    let collector = Nothing::start().await?;
    for (part, ratio) in [(part::TRACED, "0.01"), (part::ALL_TRACED, "1")] {
        let extra = Extra::Traces { collector: collector.address(), ratio };
        let fixture = bench.environment.open_fixture_with(OPTIONS, extra).await?;
        measure(bench, fixture, part, None).await?;
    }
    collector.stop().await
}

async fn measure(
    bench: &mut Bench,
    fixture: BenchFixture,
    part: &'static str,
    requests: Option<Requests>,
) -> anyhow::Result<()> {
    let mut group = orders(&fixture, part, CONNECTIONS);
    if let Some(requests) = requests {
        group.requests = Arc::new(requests);
    }
    bench.measure_and_close(fixture, group, Expectation::default()).await
}
