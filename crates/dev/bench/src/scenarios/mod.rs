//! The parts of the benchmark, one file each, and the table that lists them.
//!
//! To add one: a file with `pub async fn run(bench: &mut Bench) -> anyhow::Result<()>`, which opens
//! a shop, measures with [`Bench::measure`], records points, and closes the shop (which audits
//! it); a name for its points in [`crate::report::model::part`]; and a line in [`ALL`].

mod baselines;
mod bench;
mod compare;
mod draining;
mod hot;
mod keys;
mod measure;
mod mix;
mod nothing;
mod overload;
mod probe;
mod products;
mod reads;
mod replicas;
mod row_lock;
mod settings;
mod sold_out;
mod steady;
mod switched_on;

use futures::future::LocalBoxFuture;

pub use bench::Bench;
pub use compare::{Comparison, WORKS, compare};
pub use settings::Settings;

/// A part of the benchmark.
pub struct Scenario {
    /// By which it is chosen on the command line.
    pub name: &'static str,
    /// For people.
    pub about: &'static str,
    /// In every round, because a goal is a median over rounds; else in the first only.
    pub every_round: bool,
    /// Runs it.
    pub run: for<'a> fn(&'a mut Bench) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

/// All parts, in the order in which they run. Baselines and ours alternate from round to round, so
/// that a machine that changes its speed changes it for both.
pub const ALL: [Scenario; 16] = [
    Scenario {
        name: "nothing",
        about: "a server that does nothing, on the same HTTP stack",
        every_round: true,
        run: |bench| Box::pin(nothing::run(bench)),
    },
    Scenario {
        name: "baselines",
        about: "pgbench: SELECT … FOR UPDATE and one statement, one row and 1,000",
        every_round: true,
        run: |bench| Box::pin(baselines::run(bench)),
    },
    Scenario {
        name: "hot",
        about: "one hot product",
        every_round: true,
        run: |bench| Box::pin(hot::run(bench)),
    },
    Scenario {
        name: "keys",
        about: "one hot product, an idempotency key with each order",
        every_round: true,
        run: |bench| Box::pin(keys::run(bench)),
    },
    Scenario {
        name: "switched-on",
        about: "one hot product, callers that show a key; and orders that are traced",
        every_round: true,
        run: |bench| Box::pin(switched_on::run(bench)),
    },
    Scenario {
        name: "sold-out",
        about: "one product that is sold out, and comes back",
        every_round: true,
        run: |bench| Box::pin(sold_out::run(bench)),
    },
    Scenario {
        name: "uniform",
        about: "1,000 products, all alike",
        every_round: true,
        run: |bench| Box::pin(products::uniform(bench)),
    },
    Scenario {
        name: "zipf",
        about: "1,000 products by Zipf's law, exponent 1.1",
        every_round: false,
        run: |bench| Box::pin(products::zipf(bench)),
    },
    Scenario {
        name: "mix",
        about: "95 reads for five orders",
        every_round: false,
        run: |bench| Box::pin(mix::run(bench)),
    },
    Scenario {
        name: "reads",
        about: "reads of cached products",
        every_round: true,
        run: |bench| Box::pin(reads::run(bench)),
    },
    Scenario {
        name: "replicas",
        about: "two API replicas",
        every_round: true,
        run: |bench| Box::pin(replicas::run(bench)),
    },
    Scenario {
        name: "draining",
        about: "workers with empty fulfilment: beside a hot product, and alone",
        every_round: true,
        run: |bench| Box::pin(draining::run(bench)),
    },
    Scenario {
        name: "row-lock",
        about: "other products while a session holds one row",
        every_round: true,
        run: |bench| Box::pin(row_lock::one(bench)),
    },
    Scenario {
        name: "row-locks",
        about: "others while a session holds rows of 30 products, 2,000 orders and 8 keys",
        every_round: true,
        run: |bench| Box::pin(row_lock::many(bench)),
    },
    Scenario {
        name: "steady",
        about: "open loop at 70 % of the peak",
        every_round: true,
        run: |bench| Box::pin(steady::run(bench)),
    },
    Scenario {
        name: "overload",
        about: "open loop at three times the peak",
        every_round: false,
        run: |bench| Box::pin(overload::run(bench)),
    },
];
