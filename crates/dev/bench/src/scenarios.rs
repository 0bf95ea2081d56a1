//! The parts of the benchmark, and the table that lists them.
//!
//! To add one: write a [`work::ClientWork`], or a file with `pub async fn run(bench: &mut Bench) -> anyhow::Result<()>`
//! that opens a fixture, measures with [`Bench::measure`], records points, and closes the fixture, which audits it.
//! Then add a name for its points to [`crate::report::model::part`] and a line to [`ALL`].

mod baselines;
mod bench;
mod compare;
mod draining;
mod measure;
mod nothing;
mod overload;
mod probe;
mod row_lock;
mod settings;
mod sold_out;
mod steady;
mod switched_on;
mod work;

use futures::future::LocalBoxFuture;
use settings::CONNECTIONS;

pub use bench::Bench;
pub use compare::{Comparison, WORKS, compare};
pub use settings::Settings;

/// A part of the benchmark.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its description.
    pub about: &'static str,
    /// Whether it runs in every round, because a goal is a median over the rounds; otherwise it runs only in the first.
    pub every_round: bool,
    pub run: for<'a> fn(&'a mut Bench) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

const fn part(
    name: &'static str,
    about: &'static str,
    every_round: bool,
    run: for<'a> fn(&'a mut Bench) -> LocalBoxFuture<'a, anyhow::Result<()>>,
) -> Scenario {
    Scenario { name, about, every_round, run }
}

/// All parts, in the order in which they run. Baselines and Holdfast alternate from round to round, so that a change of
/// the speed of the machine affects both.
#[rustfmt::skip]
pub const ALL: [Scenario; 16] = [
    part("nothing", "a server that does nothing, on the same HTTP stack", true,
        |it| Box::pin(nothing::run(it))),
    part("baselines", "pgbench: SELECT … FOR UPDATE and one statement, one row and 1,000", true,
        |it| Box::pin(baselines::run(it))),
    part("hot", "one hot product", true,
        |it| Box::pin(it.sweep(work::HOT, &[1, 32, CONNECTIONS, 1_024]))),
    part("keys", "one hot product, an idempotency key with each order", true,
        |it| Box::pin(it.at(work::KEYS, CONNECTIONS))),
    part("switched-on", "one hot product, with API keys and with traces", true,
        |it| Box::pin(switched_on::run(it))),
    part("sold-out", "one product that is sold out and restocked", true,
        |it| Box::pin(sold_out::run(it))),
    part("uniform", "1,000 products, uniform", true,
        |it| Box::pin(it.sweep(work::UNIFORM, &[CONNECTIONS]))),
    part("zipf", "1,000 products by Zipf's law, exponent 1.1", false,
        |it| Box::pin(it.sweep(work::ZIPF, &[CONNECTIONS]))),
    part("mix", "95 % reads and 5 % orders", false,
        |it| Box::pin(it.sweep(work::MIX, &[CONNECTIONS]))),
    part("reads", "reads of cached products", true,
        |it| Box::pin(it.sweep(work::READS, &[CONNECTIONS]))),
    part("replicas", "two API replicas", true,
        |it| Box::pin(it.two_replicas())),
    part("draining", "workers with empty fulfilment: beside a hot product, and alone", true,
        |it| Box::pin(draining::run(it))),
    part("row-lock", "other products while one row is locked", true,
        |it| Box::pin(row_lock::one(it))),
    part("row-locks", "others while rows of 30 products, 2,000 orders and 8 keys are locked", true,
        |it| Box::pin(row_lock::many(it))),
    part("steady", "open loop at 70 % of the peak", true,
        |it| Box::pin(steady::run(it))),
    part("overload", "open loop at three times the peak", false,
        |it| Box::pin(overload::run(it))),
];
