//! Two builds of the API, measured in turns.
//!
//! The speed of a machine can change by half within a minute. So both builds are up and warm all the time, each with
//! a PostgreSQL and a Redis of its own, and the load moves from one to the other every few seconds. A ratio is the
//! median over pairs of neighbouring windows.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::measure::{quantile, sorted};
use super::settings::{CONNECTIONS, PRODUCTS};
use super::{Bench, Settings};
use crate::audit::Expectation;
use crate::load::{Choice, Group, Pace, Requests};
use crate::report::model::Point;
use crate::stage::{Shop, ShopOptions};

/// What is compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The API's binary before a change, and after it.
    pub builds: [PathBuf; 2],
    /// Only these works, or all if there are none; see [`WORKS`].
    pub only: Vec<String>,
    /// Pairs of windows for each work.
    pub pairs: u32,
    /// The length of a window.
    pub window: Duration,
    /// The folder for the logs of works with broken promises.
    pub results: PathBuf,
}

struct Work {
    name: &'static str,
    products: u32,
    replicas: u32,
    connections: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Orders,
    KeyedOrders,
    Reads,
}

const fn work(name: &'static str, products: u32, connections: usize, kind: Kind) -> Work {
    Work { name, products, replicas: 1, connections, kind }
}

/// What can be compared.
const ALL: [Work; 9] = [
    work("hot", 1, CONNECTIONS, Kind::Orders),
    work("hot_1024", 1, 1_024, Kind::Orders),
    work("hot_32", 1, 32, Kind::Orders),
    work("hot_1", 1, 1, Kind::Orders),
    work("keys", 1, CONNECTIONS, Kind::KeyedOrders),
    work("uniform", PRODUCTS, CONNECTIONS, Kind::Orders),
    work("uniform_32", PRODUCTS, 32, Kind::Orders),
    work("reads", PRODUCTS, CONNECTIONS, Kind::Reads),
    Work {
        name: "replicas",
        products: 1,
        replicas: 2,
        connections: CONNECTIONS,
        kind: Kind::Orders,
    },
];

/// The names of what can be compared.
pub const WORKS: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ALL[at].name;
        at += 1;
    }
    names
};

/// Compares two builds and writes a line for each work to `out`.
///
/// # Errors
/// When something does not start, or a promise is broken.
pub async fn compare(comparison: &Comparison, out: &mut impl Write) -> anyhow::Result<()> {
    let settings = Settings {
        warm_up: Duration::from_millis(300),
        measured: comparison.window,
        rounds: 1,
        ..Settings::quick()
    };
    let [before, after] = &comparison.builds;
    let mut before = Bench::start_for(settings.clone(), before, &comparison.results).await?;
    let mut after = Bench::start_for(settings, after, &comparison.results).await?;
    writeln!(
        out,
        "| work | before, per s | after, per s | ratio: median (quartiles) | CPU of the API | CPU of PostgreSQL |\n|---|---|---|---|---|---|"
    )?;
    let chosen = ALL.iter().filter(|work| {
        comparison.only.is_empty() || comparison.only.iter().any(|name| name == work.name)
    });
    for work in chosen {
        let options = ShopOptions { products: work.products, replicas: work.replicas };
        let mut shops =
            [before.stage.open_shop(options).await?, after.stage.open_shop(options).await?];
        let mut pairs = Vec::new();
        // The first pair warms up.
        for pair in 0..=comparison.pairs {
            let [first, second] = &mut shops;
            let both = if pair % 2 == 0 {
                let old = window(&before, first, work).await?;
                [old, window(&after, second, work).await?]
            } else {
                let new = window(&after, second, work).await?;
                [window(&before, first, work).await?, new]
            };
            if pair > 0 {
                pairs.push(both);
            }
        }
        writeln!(out, "{}", line(work.name, &pairs))?;
        out.flush()?;
        let [first, second] = shops;
        for (bench, shop) in [(&mut before, first), (&mut after, second)] {
            bench.close(shop, work.name, Expectation::default()).await?;
        }
    }
    for bench in [before, after] {
        anyhow::ensure!(bench.run.succeeded(), "a promise is broken");
        bench.stop().await?;
    }
    Ok(())
}

async fn window(bench: &Bench, shop: &mut Shop, work: &Work) -> anyhow::Result<Point> {
    let requests = match work.kind {
        Kind::Orders => Requests::orders(&shop.product_ids, Choice::Uniform),
        Kind::KeyedOrders => Requests::orders(&shop.product_ids, Choice::Uniform).with_keys(),
        Kind::Reads => Requests::reads(&shop.product_ids, Choice::Uniform),
    };
    let group = Group {
        name: work.name,
        targets: shop.targets(),
        connections: work.connections,
        requests: Arc::new(requests),
        pace: Pace::Closed,
    };
    bench.closed_loop(shop, work.name, group).await
}

fn line(name: &str, pairs: &[[Point; 2]]) -> String {
    let rate = |point: &Point| point.orders_per_s.max(point.reads_per_s);
    let cpu = |process: &'static str| move |point: &Point| cpu_of(&point.cpu_us, process);
    let ratios = |value: &dyn Fn(&Point) -> f64| {
        sorted(pairs.iter().map(|[old, new]| value(new) / value(old)))
    };
    let median = |side: usize| quantile(&sorted(pairs.iter().map(|pair| rate(&pair[side]))), 0.5);
    let rates = ratios(&rate);
    format!(
        "| {name} | {:.0} | {:.0} | {:.3} ({:.3} to {:.3}) | {:.3} | {:.3} |",
        median(0),
        median(1),
        quantile(&rates, 0.5),
        quantile(&rates, 0.25),
        quantile(&rates, 0.75),
        quantile(&ratios(&cpu("API")), 0.5),
        quantile(&ratios(&cpu("PostgreSQL")), 0.5),
    )
}

fn cpu_of(cpu: &BTreeMap<String, f64>, process: &str) -> f64 {
    cpu.get(process).copied().unwrap_or(f64::NAN)
}
