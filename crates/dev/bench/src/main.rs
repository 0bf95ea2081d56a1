//! `holdfast-bench`: measures the order system, and audits its promises.
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

// The do-nothing server has the allocator of the API, or it would be no fair ceiling.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RESULTS: &str = "target/bench";
const DOCUMENTS: &str = "docs";

/// Measures the order system on private servers, and audits its promises
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the benchmark: all parts, or those named
    Run(RunArgs),
    /// Compare two builds of the API, in turns: ratios of their speed
    Compare(CompareArgs),
    /// Prove the promises from a database and the clients' log; fails if one is broken
    Audit(AuditArgs),
    /// Offer load to a server that runs already, and log what it accepts
    Load(LoadArgs),
    /// Serve answers to orders and reads that nothing was done for
    Nothing {
        /// Where to listen
        #[arg(long)]
        addr: SocketAddr,
    },
    /// Print the tables of `docs/scale.md`: what one machine cannot show
    Simulate,
    /// Write the documents again from the results of a former run
    Report {
        /// The results
        #[arg(long, default_value = "target/bench/latest.json")]
        from: PathBuf,
        /// Where to
        #[arg(long, default_value = DOCUMENTS)]
        into: PathBuf,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Fewer points, shorter: under three minutes, and the documents stay as they are
    #[arg(long)]
    quick: bool,
    /// Only these parts; `latest.json` and the documents stay as they are
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(ALL.map(|part| part.name)))]
    only: Vec<String>,
    /// Rounds, instead of three (one in a quick run); `latest.json` and the documents stay as they
    /// are
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
}

impl RunArgs {
    /// All parts, as often as usual.
    fn is_usual(&self) -> bool {
        self.only.is_empty() && self.rounds.is_none()
    }
}

#[derive(Args)]
struct CompareArgs {
    /// The API's binary before the change
    before: PathBuf,
    /// The API's binary after the change
    after: PathBuf,
    /// Only these works
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(WORKS))]
    only: Vec<String>,
    /// Pairs of windows for each work
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// The length of a window, in milliseconds
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    window_ms: u64,
}

#[derive(Args)]
struct AuditArgs {
    /// The database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The clients' log, as `load` writes it. It must know of all orders
    #[arg(long)]
    log: Option<PathBuf>,
    /// The folder into which `holdfast-api archive` has written
    #[arg(long)]
    archive: Option<PathBuf>,
    /// Workers have had their time: every order must be completed
    #[arg(long)]
    all_completed: bool,
    /// Workers have had their time: no order may be on its way any more
    #[arg(long)]
    all_final: bool,
}

#[derive(Args)]
struct LoadArgs {
    /// Where it listens, name or address and port; several replicas with a comma between them
    #[arg(long, required = true, value_delimiter = ',')]
    target: Vec<String>,
    /// Connections
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// An API key or a token to bear, where the server asks for one
    #[arg(long, env = "HOLDFAST_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The first of the products
    #[arg(long, default_value_t = 1)]
    first_product: i64,
    /// How many products: those with the ids from the first on, or new ones with --new-stock
    #[arg(long, default_value_t = 1)]
    products: i64,
    /// Put products of its own into the shop first, each with so many units
    #[arg(long)]
    new_stock: Option<i64>,
    /// The share of reads, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    reads: f64,
    /// Zipf's law with this exponent instead of all products alike
    #[arg(long)]
    zipf: Option<f64>,
    /// Requests per second in an open loop, instead of as many as are answered
    #[arg(long)]
    rate: Option<f64>,
    /// Wait for this time, such as 2026-11-27T10:00:00Z, an hour at most
    #[arg(long)]
    start_at: Option<Timestamp>,
    /// For how long, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Threads
    #[arg(long, default_value_t = load::default_threads())]
    threads: usize,
    /// Where to write the log of accepted orders, for `audit`
    #[arg(long)]
    log: Option<PathBuf>,
    /// Units of each product before the first order, for that log
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
    // A part of a run must not pass for the last whole one.
    let name = if args.is_usual() { "latest.json" } else { "part.json" };
    let path = results.join(name);
    serde_json::to_writer_pretty(BufWriter::new(File::create(&path)?), &run)?;
    eprintln!("All figures are in {}; the run took {:.0} s.", path.display(), run.duration_s);
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
    let verdict = if findings.hold() { "every promise holds" } else { "a promise is broken" };
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
        writeln!(std::io::stdout(), "\nanswers by status: {:?}", group.statuses)?;
        let slowest = group.orders.quantile_ms(0.99).max(group.sold_out.quantile_ms(0.99));
        writeln!(std::io::stdout(), "p99 of 201 and 409, the longer one: {slowest:.1} ms")?;
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

/// Until the opening of a sale, say.
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
        anyhow::ensure!(answer.status == 201, "a product was refused: {}", answer.body);
        let made: serde_json::Value = serde_json::from_str(&answer.body)?;
        ids.push(made["id"].as_i64().context("a product without an id")?);
    }
    Ok(ids)
}

fn serve_nothing(address: SocketAddr) -> anyhow::Result<ExitCode> {
    // As many threads as the API has.
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(nothing::serve(address))?;
    Ok(ExitCode::SUCCESS)
}

/// One thread, which waits most of the time: the servers and the generator need the processors.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // After an interruption the generator's threads still run: nobody waits for them.
    runtime.shutdown_background();
    result
}
