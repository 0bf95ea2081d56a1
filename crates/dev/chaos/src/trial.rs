//! One fault under load: what works during it, the time until everything works again, and the audit.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use holdfast_bench::audit::Findings;
use holdfast_sandbox::http_get;

use crate::clients::{ClientEvent, ClientsRecord, RequestOutcome};
use crate::environment::Environment;
use crate::fault::Fault;

/// Orders that must have been accepted for load to count as running.
const SOME: usize = 30;

const CLIENTS: usize = 8;

/// The pause between two checks of the replica without a fault.
const PROBE: Duration = Duration::from_millis(100);

/// The time limit of `/livez`, on a busy machine.
const LIVE_LIMIT: Duration = Duration::from_secs(5);

/// The time limit for each step to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of a fault.
#[derive(Debug)]
pub struct FaultTrial {
    pub fault: Fault,
    pub lasted: Duration,
    /// Orders accepted during the fault, except for product 1.
    pub accepted: usize,
    /// Orders accepted for product 1, which one session locks.
    pub accepted_of_first: usize,
    /// Orders refused cleanly during the fault.
    pub refused: usize,
    /// Orders that reached the receiver during the fault.
    pub fulfilled: u64,
    /// The longest time until an answer, from the start of the fault to the end.
    pub slowest: Duration,
    /// The same, except for product 1.
    pub slowest_of_others: Duration,
    /// The number of checks of the other replica.
    pub probes: usize,
    /// Checks in which `/livez` did not answer 200 within [`LIVE_LIMIT`].
    pub dead: usize,
    /// Checks in which a read of a product or an order failed.
    pub failed_reads: usize,
    /// Checks in which a read had no answer within ten seconds.
    pub unanswered_reads: usize,
    /// The last answer of `/readyz` of the other replica.
    pub ready: bool,
    /// The longest read.
    pub slowest_read: Duration,
    /// The time from the repair until orders are accepted again.
    pub recovered: Duration,
    /// The time from the end of the load until all orders were final.
    pub settled: Duration,
    /// The number of repeated webhook requests, which are allowed.
    pub repeats: u64,
    /// The result of the audit.
    pub findings: Findings,
    /// The log of the clients.
    pub seen: ClientsRecord,
}

/// Injects a fault for `hold` into an environment under load, repairs it, and audits.
///
/// # Errors
/// The fault cannot be injected, or orders are not accepted before or after it.
pub async fn run(
    environment: &Environment,
    fault: Fault,
    hold: Duration,
) -> anyhow::Result<FaultTrial> {
    let clients = environment.clients(CLIENTS);
    clients.more(SOME).await.context("before the fault")?;
    let order = clients.look(|seen| seen.log.accepted.first().map_or(1, |order| order.id));
    let begun = Instant::now();
    fault.inflict(environment).await.with_context(|| format!("cannot inject: {fault}"))?;
    let (struck, sent) = (Instant::now(), environment.downstream.counts().0);
    // Some faults take long to inject.
    let probes = probe(environment, order, struck + hold).await?;
    let (lasted, fulfilled) = (begun.elapsed(), environment.downstream.counts().0 - sent);
    fault.heal(environment).await.with_context(|| format!("cannot repair: {fault}"))?;
    let healed = Instant::now();
    clients.more(SOME).await.context("after the fault")?;
    // From both replicas, because their processes are ready again.
    environment.ready(PATIENCE).await?;
    let ended = Instant::now();
    let seen = clients.stop().await;
    let findings = environment.audit(&seen, PATIENCE).await?;
    let settled = ended.elapsed();

    let within = |from: Instant, to: Instant, outcome: RequestOutcome, first: bool| {
        let counts = |event: &&ClientEvent| {
            // Requested and answered within that time.
            event.at.checked_sub(event.took).is_some_and(|asked| asked >= from)
                && event.at < to
                && event.outcome == outcome
                && (event.product == 1) == first
        };
        seen.events.iter().filter(counts).count()
    };
    let end = begun + lasted;
    let slowest = |of: fn(&ClientEvent) -> bool| {
        let after = seen.events.iter().filter(|event| event.at >= begun && of(event));
        after.map(|event| event.took).max().unwrap_or_default()
    };
    let recovered = seen
        .events
        .iter()
        .find(|event| event.at >= healed && event.outcome == RequestOutcome::Accepted)
        .map_or(PATIENCE, |event| event.at - healed);
    Ok(FaultTrial {
        fault,
        lasted,
        accepted: within(struck, end, RequestOutcome::Accepted, false),
        accepted_of_first: within(struck, end, RequestOutcome::Accepted, true),
        refused: within(struck, end, RequestOutcome::Refused, false)
            + within(struck, end, RequestOutcome::Refused, true),
        fulfilled,
        slowest: slowest(|_| true),
        slowest_of_others: slowest(|event| event.product != 1),
        probes: probes.count,
        dead: probes.dead,
        failed_reads: probes.failed_reads,
        unanswered_reads: probes.unanswered_reads,
        ready: probes.ready,
        slowest_read: probes.slowest_read,
        recovered,
        settled,
        repeats: environment.downstream.counts().1,
        findings,
        seen,
    })
}

#[derive(Default)]
struct Probes {
    count: usize,
    dead: usize,
    failed_reads: usize,
    unanswered_reads: usize,
    ready: bool,
    slowest_read: Duration,
}

/// Checks the replica without a fault periodically.
async fn probe(environment: &Environment, order: i64, until: Instant) -> anyhow::Result<Probes> {
    let other = environment.apis.last().context("no replica")?;
    let live = format!("http://{}/livez", other.address());
    let readiness = format!("http://{}/readyz", other.internal());
    let reads = ["products/1".to_owned(), format!("orders/{order}")];
    let mut probes = Probes::default();
    while Instant::now() < until {
        probes.count += 1;
        let answer = tokio::time::timeout(LIVE_LIMIT, http_get(&live)).await;
        if !matches!(answer, Ok(Ok(answer)) if answer.status == 200) {
            probes.dead += 1;
        }
        for read in &reads {
            let begun = Instant::now();
            let answer = http_get(&format!("http://{}/{read}", other.address())).await;
            probes.unanswered_reads += usize::from(answer.is_err());
            if !answer.is_ok_and(|answer| answer.status == 200) {
                probes.failed_reads += 1;
            }
            probes.slowest_read = probes.slowest_read.max(begun.elapsed());
        }
        // After the reads, which can take long.
        probes.ready = http_get(&readiness).await.is_ok_and(|answer| answer.status == 200);
        tokio::time::sleep(PROBE).await;
    }
    Ok(probes)
}
