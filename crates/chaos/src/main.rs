//! `holdfast-chaos`: faults at random, or one after the other.
#![allow(clippy::disallowed_methods)] // never shipped, and reads what its own programs wrote
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use holdfast_chaos::fault::Fault;
use holdfast_chaos::world::World;
use holdfast_chaos::{chaos, table, timeline, trial};

/// Breaks a private Holdfast on purpose, and audits its promises.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Random faults under load, then a heal and the audit
    Run {
        /// For how long, in minutes
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
        /// Draws the faults; the same seed draws the same ones. Random unless given
        #[arg(long)]
        seed: Option<u64>,
        /// Where the timeline goes
        #[arg(long, default_value = "target/chaos.svg")]
        svg: PathBuf,
    },
    /// Each fault by itself, as a table
    Faults {
        /// Where the table goes; to the terminal unless given
        #[arg(long)]
        write: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let held = match Arguments::parse().command {
        Command::Run { minutes, seed, svg } => run(minutes, seed, svg).await,
        Command::Faults { write } => faults(write).await,
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

/// Whether the promises held.
async fn run(minutes: u64, seed: Option<u64>, svg: PathBuf) -> anyhow::Result<bool> {
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let plan = chaos::plan(seed, Duration::from_mins(minutes));
    let tell = |struck: &chaos::Struck| {
        let (from, to) = (struck.from.as_secs_f64(), struck.to.as_secs_f64());
        println!("{from:7.1} s to {to:7.1} s  {}", struck.fault);
    };
    let found = chaos::run(&plan, tell, |fault, why| println!("SKIPPED: {fault}: {why:#}")).await?;
    std::fs::write(&svg, timeline::render(&found, seed))?;
    println!("answers: {:?}", found.seen.answers);
    println!("sent downstream again: {}; all final after {:?}", found.repeats, found.settled);
    println!("{}", found.findings);
    println!("timeline: {}", svg.display());
    Ok(found.findings.hold())
}

/// Whether the promises held under each.
async fn faults(write: Option<PathBuf>) -> anyhow::Result<bool> {
    let mut trials = Vec::new();
    for fault in Fault::ALL {
        if let Err(why) = fault.possible() {
            println!("SKIPPED: {fault}: {why:#}");
            continue;
        }
        let world = World::start(&fault.world()).await?;
        let trial = trial::run(&world, *fault, fault.hold()).await?;
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
