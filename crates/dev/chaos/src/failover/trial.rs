//! One failover under load: the fault, the times, the repair, and what became of the orders.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use holdfast_sandbox::{PATRONI_TTL, Patroni, PatroniMode};
use sqlx::PgConnection;

use super::cluster::DATABASE;
use super::{FailoverCluster, FailoverFault, KeyedLoad, Losses};

/// Orders that each replica must have accepted for load to count as running.
const SOME: usize = 50;
/// Units of a product that is sold out during the failover.
const SCARCE: i64 = 400;
/// In asynchronous mode, the standbys get nothing for so long before the fault, as over a slow connection.
const BEHIND: Duration = Duration::from_millis(500);
/// A frozen or isolated node stays so for this time after another one has become the primary.
const AFTER: Duration = Duration::from_secs(2);
const FAILOVER_LIMIT: Duration = Duration::from_mins(2);
const WRITE_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The metric of orders that replicas have answered and that are gone after a failover.
const REPORTED: &str = "holdfast_orders_lost_total";

/// The result of a failover.
#[derive(Debug)]
pub struct FailoverTrial {
    /// The fault.
    pub fault: FailoverFault,
    /// The longest time between two accepted orders.
    pub without_orders: Duration,
    /// From the fault until the new primary has committed a write of another program.
    pub elected: Duration,
    /// From then until each replica has accepted an order.
    pub reconnected: Duration,
    /// From the fault until all three nodes are in order again, with the time until the repair.
    pub recovered: Duration,
    /// Orders that were accepted from the fault to the end.
    pub accepted: usize,
    /// Refusals from the fault to the end, by status and kind of problem.
    pub refused: BTreeMap<String, usize>,
    /// Answers that left the outcome unknown. All of them are known later.
    pub unknown: usize,
    /// Orders that the replicas report as lost.
    pub reported: u64,
    /// Sessions of Holdfast on nodes that accept no writes, at the end.
    pub on_standbys: i64,
    /// What breaks a promise. `doubled` and others include those of earlier failovers.
    pub losses: Losses,
}

impl FailoverTrial {
    /// Whether all promises of the mode held.
    pub fn holds(&self, mode: PatroniMode) -> bool {
        let losses = &self.losses;
        let kept = losses.doubled == 0
            && losses.oversold == 0
            && losses.refused_and_there == 0
            && losses.same_message == 0
            && self.on_standbys == 0;
        let lost = u64::try_from(losses.lost.len()).unwrap_or(u64::MAX);
        kept && self.reported == lost
            && match mode {
                PatroniMode::Synchronous => lost == 0 && losses.done_twice.is_empty(),
                // What is lost may be ordered again.
                PatroniMode::Asynchronous => true,
            }
    }
}

/// Lets the primary fail under a running load, and repairs it.
///
/// # Errors
/// There is no failover, or orders are not accepted before or after it.
pub async fn run(
    cluster: &FailoverCluster,
    load: &KeyedLoad,
    fault: FailoverFault,
) -> anyhow::Result<FailoverTrial> {
    let patroni = &cluster.patroni;
    let old = patroni.healthy().await?;
    load.more(SOME, cluster.apis.len()).await.context("before the failover")?;
    let (first, refused, unknown) =
        load.look(|seen| (seen.accepted.len(), seen.refused.len(), seen.unknown.len()));
    let without = load.look(|seen| seen.without.len());
    let reported = cluster.counter(REPORTED).await?;
    load.sell(cluster.add_product(SCARCE).await?, SCARCE);
    let behind = cluster.mode == PatroniMode::Asynchronous && fault != FailoverFault::Switchover;
    if behind {
        patroni.hold_replication(old, true)?;
        tokio::time::sleep(BEHIND).await;
    }

    let begun = Instant::now();
    let switching = async {
        match fault {
            FailoverFault::Killed => patroni.kill9(old).await,
            FailoverFault::Switchover => patroni.switchover(old).await,
            FailoverFault::Frozen => patroni.pause(old).await,
            FailoverFault::Cut => patroni.cut(old, true),
        }
    };
    let writes = async { tokio::time::timeout(FAILOVER_LIMIT, accepts_writes(patroni, old)).await };
    let (switched, writes) = tokio::join!(switching, writes);
    switched.with_context(|| format!("cannot inject: {fault}"))?;
    let Ok(writable) = writes else {
        bail!("no failover in {FAILOVER_LIMIT:?}:\n{}", patroni.log_tails(15));
    };
    load.more(SOME, cluster.apis.len()).await.context("after the failover")?;

    if matches!(fault, FailoverFault::Frozen | FailoverFault::Cut) {
        // Certainly longer than its lease.
        tokio::time::sleep(Duration::from_secs(PATRONI_TTL).saturating_sub(begun.elapsed())).await;
        tokio::time::sleep(AFTER).await;
    }
    match fault {
        FailoverFault::Killed => patroni.restart(old).await?,
        FailoverFault::Switchover => {}
        FailoverFault::Frozen => patroni.resume(old).await?,
        FailoverFault::Cut => patroni.cut(old, false)?,
    }
    patroni.hold_replication(old, false)?;
    patroni.healthy().await?;
    let recovered = begun.elapsed();
    load.more(SOME, cluster.apis.len()).await.context("after the repair")?;

    // Everything up to here is looked for.
    let (accepted, refusals, unknown, without) = load.look(|seen| {
        let mut refusals = BTreeMap::<String, usize>::new();
        for (_, words) in seen.refused.iter().skip(refused) {
            *refusals.entry(words.clone()).or_default() += 1;
        }
        let without: Vec<_> = seen.without.iter().skip(without).cloned().collect();
        let accepted: Vec<_> = seen.accepted.iter().skip(first).cloned().collect();
        (accepted, refusals, seen.unknown.len() - unknown, without)
    });
    let times: Vec<_> = accepted.iter().map(|order| order.at).collect();
    let gaps =
        times.windows(2).filter_map(|pair| Some(pair.last()?.duration_since(*pair.first()?)));
    let reconnected = (0..cluster.apis.len())
        .filter_map(|replica| {
            let after = accepted.iter().find(|it| it.replica == replica && it.at >= writable)?;
            Some(after.at.duration_since(writable))
        })
        .max();
    let leader = patroni.healthy().await?;
    let mut on_standbys = 0;
    for node in (0..patroni.size()).filter(|node| *node != leader) {
        on_standbys += sessions(&mut patroni.connect(node, DATABASE).await?).await?;
    }
    let mut database = patroni.connect(leader, DATABASE).await?;
    let stock =
        load.look(|seen| super::LoadRecord { stock: seen.stock.clone(), ..Default::default() });
    let losses =
        Losses::find(&mut database, &cluster.downstream, &accepted, &without, &stock).await?;
    Ok(FailoverTrial {
        fault,
        without_orders: gaps.max().unwrap_or_default(),
        elected: writable.duration_since(begun),
        reconnected: reconnected.unwrap_or_default(),
        recovered,
        accepted: accepted.iter().filter(|order| order.at >= begun).count(),
        refused: refusals,
        unknown,
        reported: cluster.counter(REPORTED).await? - reported,
        on_standbys,
        losses,
    })
}

/// The time at which another node than this one has committed a write. The commit waits for a standby, if commits do.
async fn accepts_writes(patroni: &Patroni, old: usize) -> Instant {
    let each: Vec<_> = (0..patroni.size())
        .filter(|node| *node != old)
        .map(|node| {
            Box::pin(async move {
                loop {
                    // Anew after each error: a node may be restarted.
                    let Ok(at) = write_on(patroni, node).await else {
                        tokio::time::sleep(POLL).await;
                        continue;
                    };
                    return at;
                }
            })
        })
        .collect();
    let mut each = each.into_iter();
    let (Some(one), Some(other)) = (each.next(), each.next()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        at = one => at,
        at = other => at,
    }
}

async fn write_on(patroni: &Patroni, node: usize) -> anyhow::Result<Instant> {
    let sql = "SELECT CASE WHEN NOT pg_is_in_recovery() \
         THEN pg_logical_emit_message(true, 'failover', '') END IS NOT NULL";
    let mut connection = patroni.connect(node, DATABASE).await?;
    loop {
        let write = sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection);
        if tokio::time::timeout(WRITE_LIMIT, write).await?? {
            return Ok(Instant::now());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Sessions of Holdfast on a node.
async fn sessions(node: &mut PgConnection) -> anyhow::Result<i64> {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast%'";
    Ok(sqlx::query_scalar(sql).fetch_one(node).await?)
}
