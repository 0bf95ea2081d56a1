//! `holdfast-bench`: benchmarks Holdfast, and audits its guarantees.
#![allow(clippy::disallowed_methods)] // never shipped, and reads what its own programs wrote

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use holdfast_bench::audit::{Expectation, Log, audit_with_archive};
use holdfast_bench::load::{self, Choice, ClientGroup, LoadPlan, Pace, Requests};
use holdfast_bench::nothing;
use holdfast_bench::report::model::{Point, Run};
use holdfast_bench::report::{chart, markdown, terminal};
use holdfast_bench::scenarios::{ALL, Bench, Comparison, Settings, WORKS, compare};
use holdfast_bench::simulate;
use holdfast_sandbox::{http_post_json, http_post_json_as};
use jiff::Timestamp;

// The baseline server must use the same allocator as the API to be a fair upper bound.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RESULTS: &str = "target/bench";
const DOCUMENTS: &str = "docs";

/// Benchmarks Holdfast on private servers, and audits its guarantees
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the benchmark
    Run(RunArgs),
    /// Compare the speed of two builds of the API, measured alternately
    Compare(CompareArgs),
    /// Check the guarantees with a database and the clients' log; fails if one is violated
    Audit(AuditArgs),
    /// Send load to a running server, and log the accepted orders
    Load(LoadArgs),
    /// Run the baseline server, which answers orders and reads without doing any work
    Nothing {
        /// The address to listen on
        #[arg(long)]
        addr: SocketAddr,
    },
    /// Print the simulation tables of `docs/scale.md`
    Simulate,
    /// Write the documents again from the results of an earlier run
    Report {
        /// The file with the results
        #[arg(long, default_value = "target/bench/latest.json")]
        from: PathBuf,
        /// The folder for the documents
        #[arg(long, default_value = DOCUMENTS)]
        into: PathBuf,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Run fewer and shorter measurements, in less than three minutes, and do not write the documents
    #[arg(long)]
    quick: bool,
    /// Run only these parts, and write neither `latest.json` nor the documents
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(ALL.map(|part| part.name)))]
    only: Vec<String>,
    /// The number of rounds, instead of three (one in a quick run); writes neither `latest.json` nor the documents
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
}

impl RunArgs {
    /// Whether this is a complete run with the default number of rounds.
    fn is_usual(&self) -> bool {
        self.only.is_empty() && self.rounds.is_none()
    }
}

#[derive(Args)]
struct CompareArgs {
    /// The binary of the API before the change
    before: PathBuf,
    /// The binary of the API after the change
    after: PathBuf,
    /// Compare only these workloads
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(WORKS))]
    only: Vec<String>,
    /// The number of measurements of each build for each workload
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// The duration of a measurement, in milliseconds
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    window_ms: u64,
}

#[derive(Args)]
struct AuditArgs {
    /// The URL of the database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The log of the clients, as written by `load`; it must contain all orders
    #[arg(long)]
    log: Option<PathBuf>,
    /// The folder with the files of `holdfast-api archive`
    #[arg(long)]
    archive: Option<PathBuf>,
    /// Require that all orders are completed
    #[arg(long)]
    all_completed: bool,
    /// Require that all orders have a final status
    #[arg(long)]
    all_final: bool,
}

#[derive(Args)]
struct LoadArgs {
    /// The host and port of the server; several replicas are separated by commas
    #[arg(long, required = true, value_delimiter = ',')]
    target: Vec<String>,
    /// The number of connections
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// The API key or token, if the server needs one
    #[arg(long, env = "HOLDFAST_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The id of the first product
    #[arg(long, default_value_t = 1)]
    first_product: i64,
    /// The number of products, with consecutive ids, or new ones with --new-stock
    #[arg(long, default_value_t = 1)]
    products: i64,
    /// Create new products first, each with this many units
    #[arg(long)]
    new_stock: Option<i64>,
    /// The fraction of reads (0 to 1)
    #[arg(long, default_value_t = 0.0)]
    reads: f64,
    /// Choose products by Zipf's law with this exponent, instead of uniformly
    #[arg(long)]
    zipf: Option<f64>,
    /// Send this many requests per second (open loop), instead of the next one after each answer
    #[arg(long)]
    rate: Option<f64>,
    /// Wait until this time, such as 2026-11-27T10:00:00Z, for at most one hour
    #[arg(long)]
    start_at: Option<Timestamp>,
    /// The duration, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The number of threads
    #[arg(long, default_value_t = load::default_threads())]
    threads: usize,
    /// The file for the log of accepted orders, for `audit`
    #[arg(long)]
    log: Option<PathBuf>,
    /// The initial stock of each product, for that log
    #[arg(long)]
    initial_stock: Option<i64>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Compare(args) => run_comparison(args),
        Command::Audit(args) => run_audit(&args),
        Command::Load(args) => offer(&args),
        Command::Nothing { addr } => serve_nothing(addr),
        Command::Simulate => print_simulations(),
        Command::Report { from, into } => {
            read_run(&from).and_then(|run| write_documents(&run, &into))
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("holdfast-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut settings = if args.quick { Settings::quick() } else { Settings::full() };
    settings.rounds = args.rounds.unwrap_or(settings.rounds);
    let command = match (args.quick, args.is_usual()) {
        (true, true) => "make bench QUICK=1".to_owned(),
        (false, true) => "make bench".to_owned(),
        (_, false) => {
            std::env::args().skip(1).fold("holdfast-bench".to_owned(), |all, one| all + " " + &one)
        }
    };
    let results = PathBuf::from(RESULTS);
    let run = block_on(async {
        let bench = Bench::start(settings, command, results.clone()).await?;
        tokio::select! {
            run = bench.run(&args.only) => run,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })?;
    terminal::write(&run, &mut std::io::stdout().lock())?;
    fs::create_dir_all(&results)?;
    // Part of a run must not replace the last complete run.
    let name = if args.is_usual() { "latest.json" } else { "part.json" };
    let path = results.join(name);
    serde_json::to_writer_pretty(BufWriter::new(File::create(&path)?), &run)?;
    eprintln!("All results are in {}; the run took {:.0} s.", path.display(), run.duration_s);
    if !args.quick && args.is_usual() && run.succeeded() {
        write_documents(&run, Path::new(DOCUMENTS))?;
    }
    Ok(if run.succeeded() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_comparison(args: CompareArgs) -> anyhow::Result<ExitCode> {
    let CompareArgs { before, after, only, pairs, window_ms } = args;
    let comparison = Comparison {
        builds: [before, after],
        only,
        pairs,
        window: Duration::from_millis(window_ms),
        results: PathBuf::from(RESULTS),
    };
    let mut out = std::io::stdout();
    block_on(async {
        tokio::select! {
            result = compare(&comparison, &mut out) => result,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print_simulations() -> anyhow::Result<ExitCode> {
    write!(std::io::stdout(), "{}", simulate::render())?;
    Ok(ExitCode::SUCCESS)
}

fn read_run(path: &Path) -> anyhow::Result<Run> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(serde_json::from_reader(BufReader::new(file))?)
}

fn write_documents(run: &Run, folder: &Path) -> anyhow::Result<ExitCode> {
    for (name, text) in
        [("benchmarks.md", markdown::render(run)), ("benchmarks.svg", chart::render(run)?)]
    {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("{} is written.", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn run_audit(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let log = args.log.as_deref().map(read_log).transpose()?;
    let expectation = Expectation { all_completed: args.all_completed, all_final: args.all_final };
    let findings = block_on(audit_with_archive(
        &args.database_url,
        log.as_ref(),
        args.archive.as_deref(),
        expectation,
    ))?;
    let verdict = if findings.hold() { "all guarantees hold" } else { "a guarantee is violated" };
    writeln!(std::io::stdout(), "{findings}\n{verdict}")?;
    Ok(if findings.hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_log(path: &Path) -> anyhow::Result<Log> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Log::read(BufReader::new(file)).with_context(|| path.display().to_string())
}

fn offer(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let targets = resolve(&args.target)?;
    let product_ids: Vec<i64> = match args.new_stock {
        Some(stock) => {
            block_on(new_products(targets[0], args.products, stock, args.key.as_deref()))?
        }
        None => (args.first_product..args.first_product.saturating_add(args.products)).collect(),
    };
    let choice = args.zipf.map_or(Choice::Uniform, |exponent| Choice::Zipf { exponent });
    let requests = Requests::mix(&product_ids, choice, args.reads);
    let requests = match &args.key {
        Some(key) => requests.with_bearer(key),
        None => requests,
    };
    let pace = args.rate.map_or(Pace::Closed, |per_second| Pace::Open {
        per_second,
        patience: Duration::from_secs(1),
    });
    let group = ClientGroup {
        name: "load",
        targets,
        connections: args.connections,
        requests: Arc::new(requests),
        pace,
    };
    let measured = Duration::from_secs(args.seconds);
    let plan =
        LoadPlan { threads: args.threads, ..LoadPlan::closed(group, Duration::ZERO, measured) };
    wait_for(args.start_at)?;
    let report = load::run(&plan, |_| {})?;
    for group in &report.groups {
        let point = Point::default().with_report(group);
        serde_json::to_writer_pretty(std::io::stdout().lock(), &point)?;
        writeln!(std::io::stdout(), "\n{}", group.outcomes)?;
        anyhow::ensure!(group.outcomes.are_complete(), "a request has no outcome, or two");
        writeln!(
            std::io::stdout(),
            "outcome unknown: {} without an answer, {} with outcome-unknown or 504",
            group.cut_off,
            group.outcome_unknown
        )?;
        let slowest = group.orders.quantile_ms(0.99).max(group.sold_out.quantile_ms(0.99));
        writeln!(std::io::stdout(), "p99 of 201 and 409, the larger of the two: {slowest:.1} ms")?;
    }
    if let Some(path) = &args.log {
        let mut log = Log::default();
        if let Some(stock) = args.new_stock.or(args.initial_stock) {
            log.initial_stock = product_ids.iter().map(|id| (*id, stock)).collect();
        }
        log.add(&report);
        let mut file = BufWriter::new(File::create(path)?);
        log.write(&mut file)?;
        file.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits, for example until the opening of a sale.
fn wait_for(time: Option<Timestamp>) -> anyhow::Result<()> {
    let Some(time) = time else { return Ok(()) };
    let wait = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
    anyhow::ensure!(wait <= Duration::from_hours(1), "--start-at is more than an hour ahead");
    std::thread::sleep(wait);
    Ok(())
}

/// The first address of each name.
fn resolve(targets: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let resolve = |target: &String| {
        let mut found =
            target.to_socket_addrs().with_context(|| format!("cannot look up {target}"))?;
        found.next().with_context(|| format!("{target} has no address"))
    };
    targets.iter().map(resolve).collect()
}

async fn new_products(
    target: SocketAddr,
    count: i64,
    stock: i64,
    key: Option<&str>,
) -> anyhow::Result<Vec<i64>> {
    let url = format!("http://{target}/products");
    let mut ids = Vec::new();
    for number in 1..=count {
        let product = serde_json::json!({
            "name": format!("Flash sale item {number}"), "price": "9.90", "stock": stock
        });
        let answer = match key {
            Some(key) => http_post_json_as(key, &url, &product).await?,
            None => http_post_json(&url, &product).await?,
        };
        anyhow::ensure!(answer.status == 201, "a product was not created: {}", answer.body);
        let made: serde_json::Value = serde_json::from_str(&answer.body)?;
        ids.push(made["id"].as_i64().context("a product without an id")?);
    }
    Ok(ids)
}

fn serve_nothing(address: SocketAddr) -> anyhow::Result<ExitCode> {
    // The number of threads of the API.
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(nothing::serve(address))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs on one thread, because the servers and the load generator need the processors.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // After an interruption, the load generator's threads may still be running. Do not wait for them.
    runtime.shutdown_background();
    result
}
