//! Random faults under load, followed by repairs and the audit.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use holdfast_bench::audit::Findings;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::clients::{ClientsRecord, Crowd, Moment};
use crate::environment::{Environment, EnvironmentOptions, RedisSetup};
use crate::fault::Fault;

/// The default frequency of hang-ups.
pub const HANG_UPS: f64 = 0.3;

const BUYERS: usize = 4;
const WRITERS: usize = 8;
const HOLD_MS: std::ops::RangeInclusive<u64> = 200..=6_000;
const REST_MS: std::ops::RangeInclusive<u64> = 200..=2_500;

/// The fewest orders that are accepted in a minute under faults, on any machine.
const ACCEPTED_MIN: u64 = 200;

/// The time limit for all orders to become final after the repairs.
const SETTLE: Duration = Duration::from_mins(2);

/// A fault of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// The time without a fault before it.
    pub rest: Duration,
    pub fault: Fault,
    /// Its duration; some faults are over at once.
    pub hold: Duration,
}

/// A fault that happened.
#[derive(Clone, Copy, Debug)]
pub struct Struck {
    pub fault: Fault,
    /// Its start, since the start of the load.
    pub from: Duration,
    /// Its end after the repair, since the start of the load.
    pub to: Duration,
}

/// The result of a run.
#[derive(Debug)]
pub struct Chaos {
    /// The start of the load.
    pub begun: Instant,
    /// The faults, in order.
    pub struck: Vec<Struck>,
    /// The result of the audit.
    pub findings: Findings,
    /// The log of the clients.
    pub seen: ClientsRecord,
    /// The number of repeated webhook requests, which are allowed.
    pub repeats: u64,
    /// The time until all orders were final.
    pub settled: Duration,
}

impl Chaos {
    /// The reasons why the run is not conclusive: too few orders, or no hang-up of some kind.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        let accepted = self.findings.accepted.unwrap_or(0);
        if accepted < ACCEPTED_MIN {
            gaps.push(format!("only {accepted} orders were accepted"));
        }
        for moment in Moment::ALL {
            if !self.seen.hang_ups.keys().any(|(_, at)| *at == moment) {
                gaps.push(format!("no client hung up {}", moment.words()));
            }
        }
        gaps
    }
}

/// The faults of a seed, for about `length`. The same seed gives the same faults.
pub fn plan(seed: u64, length: Duration) -> Vec<PlannedFault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    let mut planned = Duration::ZERO;
    // The others need other servers.
    let here = |fault: &&Fault| fault.environment().redis == RedisSetup::One;
    let faults: Vec<&Fault> = Fault::ALL.iter().filter(here).collect();
    while planned < length {
        let Some(fault) = faults.choose(&mut random) else { break };
        let mut millis = |range| Duration::from_millis(random.random_range(range));
        let step = PlannedFault { rest: millis(REST_MS), fault: **fault, hold: millis(HOLD_MS) };
        planned += step.rest + step.hold;
        steps.push(step);
    }
    steps
}

/// The clients of a seed: some only order, some write on every route, and the same number do so and hang up.
pub fn crowd(seed: u64, hang_ups: f64) -> Crowd {
    Crowd { buyers: BUYERS, writers: WRITERS, hang_ups, seed }
}

/// Injects the faults of the plan one after the other into two replicas and three workers under load, then repairs
/// everything and audits. `tell` is called for each fault, and `skipped` for faults that are not possible on this machine.
///
/// # Errors
/// A process cannot be started, or a fault cannot be injected or repaired. A violation is not an error but a finding.
pub async fn run(
    steps: &[PlannedFault],
    crowd: &Crowd,
    tell: impl Fn(&Struck),
    skipped: impl Fn(Fault, &anyhow::Error),
) -> anyhow::Result<Chaos> {
    // Faults that are not possible on this machine are left out. The others stay the same.
    let mut possible = Vec::new();
    let mut options =
        EnvironmentOptions { workers: 3, products: 8, ..EnvironmentOptions::default() };
    for step in steps {
        if let Err(why) = step.fault.possible() {
            skipped(step.fault, &why);
            continue;
        }
        let needed = step.fault.environment();
        options.disk |= needed.disk;
        options.clocks |= needed.clocks;
        possible.push(step);
    }
    let environment = Environment::start(&options).await?;
    let clients = environment.crowd(crowd);
    let begun = Instant::now();
    let mut struck = Vec::new();
    for PlannedFault { rest, fault, hold } in possible {
        tokio::time::sleep(*rest).await;
        let from = begun.elapsed();
        fault.inflict(&environment).await.with_context(|| format!("cannot inject: {fault}"))?;
        tokio::time::sleep(*hold).await;
        fault.heal(&environment).await.with_context(|| format!("cannot repair: {fault}"))?;
        let done = Struck { fault: *fault, from, to: begun.elapsed() };
        tell(&done);
        struck.push(done);
    }
    environment.ready(Duration::from_secs(30)).await?;
    let mut seen = clients.stop().await;
    let ended = Instant::now();
    let findings = environment.audit(&seen, SETTLE).await?;
    seen.log.fulfilled = environment.downstream.fulfilled();
    let repeats = environment.downstream.counts().1;
    Ok(Chaos { begun, struck, findings, seen, repeats, settled: ended.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_faults() {
        let length = Duration::from_mins(10);
        assert_eq!(plan(7, length), plan(7, length));
        assert_ne!(plan(7, length), plan(8, length));
    }
}
