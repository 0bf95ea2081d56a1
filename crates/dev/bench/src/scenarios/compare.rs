//! Two builds of the API, measured in turns.
//!
//! The speed of a machine can change by half within a minute. Therefore both builds are up and warm all the time, each
//! with its own PostgreSQL and Redis, and the load switches between them every few seconds. A ratio is the median over
//! pairs of neighbouring windows.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::measure::{quantile, sorted};
use super::settings::CONNECTIONS;
use super::work::{ClientWork, HOT, KEYS, READS, UNIFORM};
use super::{Bench, Settings};
use crate::audit::Expectation;
use crate::environment::BenchFixture;
use crate::report::model::Point;

/// The parameters of a comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The binaries of the API before and after a change.
    pub builds: [PathBuf; 2],
    /// Only these workloads, or all if there are none; see [`WORKS`].
    pub only: Vec<String>,
    /// The number of pairs of windows for each workload.
    pub pairs: u32,
    /// The length of a window.
    pub window: Duration,
    /// The folder for the logs of workloads with violations.
    pub results: PathBuf,
}

/// The workloads: name, clients, and number of connections.
const ALL: [(&str, ClientWork, usize); 9] = [
    ("hot", HOT, CONNECTIONS),
    ("hot_1024", HOT, 1_024),
    ("hot_32", HOT, 32),
    ("hot_1", HOT, 1),
    ("keys", KEYS, CONNECTIONS),
    ("uniform", UNIFORM, CONNECTIONS),
    ("uniform_32", UNIFORM, 32),
    ("reads", READS, CONNECTIONS),
    ("replicas", ClientWork { replicas: 2, ..HOT }, CONNECTIONS),
];

/// The names of the workloads.
pub const WORKS: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ALL[at].0;
        at += 1;
    }
    names
};

/// Compares two builds. Writes a line for each workload to `out`.
///
/// # Errors
/// Something does not start, or a guarantee is violated.
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
    let chosen = ALL.iter().filter(|(name, ..)| {
        comparison.only.is_empty() || comparison.only.iter().any(|only| only == name)
    });
    for (name, work, connections) in chosen {
        let options = work.options();
        let mut fixtures = [
            before.environment.open_fixture(options).await?,
            after.environment.open_fixture(options).await?,
        ];
        let window = async |bench: &Bench, fixture: &mut BenchFixture| {
            bench.closed_loop(fixture, name, work.clients(fixture, *connections)).await
        };
        let mut pairs = Vec::new();
        // The first pair is the warm-up.
        for pair in 0..=comparison.pairs {
            let [first, second] = &mut fixtures;
            let both = if pair % 2 == 0 {
                let old = window(&before, first).await?;
                [old, window(&after, second).await?]
            } else {
                let new = window(&after, second).await?;
                [window(&before, first).await?, new]
            };
            if pair > 0 {
                pairs.push(both);
            }
        }
        writeln!(out, "{}", line(name, &pairs))?;
        out.flush()?;
        let [first, second] = fixtures;
        for (bench, fixture) in [(&mut before, first), (&mut after, second)] {
            bench.close(fixture, name, Expectation::default()).await?;
        }
    }
    for bench in [before, after] {
        anyhow::ensure!(bench.run.succeeded(), "a guarantee is violated");
        bench.stop().await?;
    }
    Ok(())
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
