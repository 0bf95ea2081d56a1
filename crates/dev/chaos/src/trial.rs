//! One fault under load: what works while it lasts, how soon all works again, and the audit.

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

/// Between two looks at the replica that no fault strikes.
const PROBE: Duration = Duration::from_millis(100);

/// How long anything may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a fault did.
#[derive(Debug)]
pub struct FaultTrial {
    /// Which.
    pub fault: Fault,
    /// How long it lasted.
    pub lasted: Duration,
    /// Orders accepted while it did; those for products beside number 1.
    pub accepted: usize,
    /// Orders for the product that one session locks.
    pub accepted_of_first: usize,
    /// Orders refused cleanly while it lasted.
    pub refused: usize,
    /// Orders that reached the receiver while it did.
    pub fulfilled: u64,
    /// The longest time until an answer, from the fault to the end.
    pub slowest: Duration,
    /// The same of orders for products beside number 1.
    pub slowest_of_others: Duration,
    /// Looks at the other replica.
    pub probes: usize,
    /// Of those, `/livez` did not answer 200 within a second.
    pub dead: usize,
    /// Of those, a read of a product or an order failed.
    pub failed_reads: usize,
    /// Of those, a read had no answer at all within ten seconds.
    pub unanswered_reads: usize,
    /// What `/readyz` of the other replica said at last.
    pub ready: bool,
    /// The longest read.
    pub slowest_read: Duration,
    /// From the heal until orders are accepted again.
    pub recovered: Duration,
    /// From the end of the load until every order was final.
    pub settled: Duration,
    /// Ids that went downstream more than once: allowed, and of interest.
    pub repeats: u64,
    /// The promises.
    pub findings: Findings,
    /// What the clients know.
    pub seen: ClientsRecord,
}

/// Inflicts one fault for `hold` on an environment under load, heals it, and audits.
///
/// # Errors
/// When the fault cannot be made, or orders are not accepted before it or again after it.
pub async fn run(
    environment: &Environment,
    fault: Fault,
    hold: Duration,
) -> anyhow::Result<FaultTrial> {
    let clients = environment.clients(CLIENTS);
    clients.more(SOME).await.context("before the fault")?;
    let order = clients.look(|seen| seen.log.accepted.first().map_or(1, |order| order.id));
    let begun = Instant::now();
    fault.inflict(environment).await.with_context(|| format!("cannot make: {fault}"))?;
    let (struck, sent) = (Instant::now(), environment.downstream.counts().0);
    // Some take long to strike.
    let probes = probe(environment, order, struck + hold).await?;
    let (lasted, fulfilled) = (begun.elapsed(), environment.downstream.counts().0 - sent);
    fault.heal(environment).await.with_context(|| format!("cannot heal: {fault}"))?;
    let healed = Instant::now();
    clients.more(SOME).await.context("after the fault")?;
    // From both replicas, as their processes are ready again.
    environment.ready(PATIENCE).await?;
    let ended = Instant::now();
    let seen = clients.stop().await;
    let findings = environment.audit(&seen, PATIENCE).await?;
    let settled = ended.elapsed();

    let within = |from: Instant, to: Instant, outcome: RequestOutcome, first: bool| {
        let counts = |event: &&ClientEvent| {
            // Asked and answered within that time.
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

/// Looks at the replica that no fault strikes, again and again.
async fn probe(environment: &Environment, order: i64, until: Instant) -> anyhow::Result<Probes> {
    let other = environment.apis.last().context("no replica")?;
    let live = format!("http://{}/livez", other.address());
    let readiness = format!("http://{}/readyz", other.internal());
    let reads = ["products/1".to_owned(), format!("orders/{order}")];
    let mut probes = Probes::default();
    while Instant::now() < until {
        probes.count += 1;
        let answer = tokio::time::timeout(Duration::from_secs(1), http_get(&live)).await;
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
        // Behind the reads, which can take long.
        probes.ready = http_get(&readiness).await.is_ok_and(|answer| answer.status == 200);
        tokio::time::sleep(PROBE).await;
    }
    Ok(probes)
}
