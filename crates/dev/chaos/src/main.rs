//! `holdfast-chaos`: injects faults at random, or each fault alone.
#![allow(clippy::disallowed_methods)] // never shipped, and reads what its own programs wrote
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use holdfast_chaos::environment::Environment;
use holdfast_chaos::failover::{self, FailoverCluster, FailoverFault, FailoverTrial, KeyedLoad};
use holdfast_chaos::fault::Fault;
use holdfast_chaos::{chaos, coverage, table, timeline, trial};
use holdfast_sandbox::{PatroniMode, Program};

/// Injects faults into a private Holdfast, and audits its guarantees
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Inject random faults under load, repair everything, and run the audit
    Run {
        /// The duration, in minutes
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
        /// The seed of the faults; the same seed gives the same faults. Random if not given
        #[arg(long)]
        seed: Option<u64>,
        /// The file for the timeline
        #[arg(long, default_value = "target/chaos.svg")]
        svg: PathBuf,
        /// How often half of the writing clients disconnect before the answer (0 to 1)
        #[arg(long, default_value_t = chaos::HANG_UPS, value_parser = share)]
        hang_ups: f64,
        /// The file for the log of answers, for `holdfast-bench audit`
        #[arg(long, default_value = "target/chaos.log")]
        log: PathBuf,
    },
    /// Inject each fault alone, and write a table
    Faults {
        /// The file for the table; standard output if not given
        #[arg(long)]
        write: Option<PathBuf>,
    },
    /// Let the primary of a Patroni cluster fail again and again under load, and write a table
    Failovers {
        /// The number of failovers by each fault
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        each: u32,
        /// Whether commits wait for a standby; both modes if not given
        #[arg(long)]
        mode: Option<Mode>,
        /// What happens to the primary; each fault if not given
        #[arg(long)]
        fault: Option<FailoverFault>,
        /// The document with the table; standard output if not given
        #[arg(long)]
        write: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Synchronous,
    Asynchronous,
}

#[tokio::main]
async fn main() -> ExitCode {
    let held = match Arguments::parse().command {
        Command::Run { minutes, seed, svg, hang_ups, log } => {
            run(minutes, seed, hang_ups, &svg, &log).await
        }
        Command::Faults { write } => faults(write).await,
        Command::Failovers { each, mode, fault, write } => {
            failovers(each, mode, fault, write).await
        }
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("holdfast-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be between 0 and 1".to_owned())
}

/// Returns whether the guarantees held.
async fn run(
    minutes: u64,
    seed: Option<u64>,
    hang_ups: f64,
    svg: &Path,
    log: &Path,
) -> anyhow::Result<bool> {
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let plan = chaos::plan(seed, Duration::from_mins(minutes));
    let tell = |struck: &chaos::Struck| {
        let (from, to) = (struck.from.as_secs_f64(), struck.to.as_secs_f64());
        println!("{from:7.1} s to {to:7.1} s  {}", struck.fault);
    };
    let skipped = |fault, why: &_| println!("SKIPPED: {fault}: {why:#}");
    let found = chaos::run(&plan, &chaos::crowd(seed, hang_ups), tell, skipped).await?;
    std::fs::write(svg, timeline::render(&found, seed)?)?;
    let mut file = BufWriter::new(File::create(log)?);
    found.seen.log.write(&mut file)?;
    file.flush()?;
    for (told, count) in &found.seen.answers {
        println!("{count:9}  {told}");
    }
    println!("{}", coverage::render(&found));
    println!(
        "repeated webhook requests: {}; all orders final after {:?}",
        found.repeats, found.settled
    );
    println!("{}", found.findings);
    println!("timeline: {}; log: {}", svg.display(), log.display());
    let gaps = found.gaps();
    for gap in &gaps {
        println!("FAILED: {gap}");
    }
    Ok(found.findings.hold() && gaps.is_empty())
}

/// Returns whether the guarantees held under each fault.
async fn faults(write: Option<PathBuf>) -> anyhow::Result<bool> {
    let mut trials = Vec::new();
    for fault in Fault::ALL {
        if let Err(why) = fault.possible() {
            println!("SKIPPED: {fault}: {why:#}");
            continue;
        }
        let environment = Environment::start(&fault.environment()).await?;
        let trial = trial::run(&environment, *fault, fault.hold()).await?;
        println!("{fault}: {}", trial.findings);
        trials.push(trial);
    }
    let page = table::render(&trials);
    match write {
        Some(path) => std::fs::write(path, page)?,
        None => println!("{page}"),
    }
    Ok(trials.iter().all(|trial| trial.findings.hold()))
}

/// Returns whether the guarantees held.
async fn failovers(
    each: u32,
    mode: Option<Mode>,
    fault: Option<FailoverFault>,
    write: Option<PathBuf>,
) -> anyhow::Result<bool> {
    let faults = fault.map_or(FailoverFault::ALL.to_vec(), |fault| vec![fault]);
    let modes = match mode {
        Some(Mode::Synchronous) => vec![PatroniMode::Synchronous],
        Some(Mode::Asynchronous) => vec![PatroniMode::Asynchronous],
        None => vec![PatroniMode::Synchronous, PatroniMode::Asynchronous],
    };
    let (mut trials, mut held) = (Vec::new(), true);
    for mode in modes {
        held &= failovers_in(mode, &faults, each, &mut trials, write.as_deref()).await?;
    }
    if write.is_none() {
        println!("{}", failover::table::render(&trials));
    }
    Ok(held)
}

async fn failovers_in(
    mode: PatroniMode,
    faults: &[FailoverFault],
    each: u32,
    trials: &mut Vec<(PatroniMode, FailoverTrial)>,
    write: Option<&Path>,
) -> anyhow::Result<bool> {
    let cluster = FailoverCluster::start(mode).await?;
    let targets: Vec<_> = cluster.apis.iter().map(Program::address).collect();
    let load = KeyedLoad::start(&targets);
    let (mut held, mut lost, mut back) = (true, Vec::new(), 0);
    for number in 1..=each {
        for fault in faults {
            let trial = failover::run(&cluster, &load, *fault).await?;
            let fine = trial.holds(mode);
            let sign = if fine { "" } else { "FAILED: " };
            println!("{sign}{}, {fault}, {number}: {trial:?}", failover::words(mode));
            held &= fine;
            lost.extend(trial.losses.lost.iter().cloned());
            if trial.taken_back {
                back += u64::try_from(trial.losses.refused_and_there)?;
            }
            trials.push((mode, trial));
            // A run takes long, and what was measured stays if it is ended early.
            if let Some(path) = write {
                failover::table::write(path, trials)?;
            }
        }
    }
    let seen = load.stop().await;
    let findings = cluster.audit(&seen, &lost, back).await?;
    println!("{}: {findings}", failover::words(mode));
    Ok(held && findings.hold())
}
