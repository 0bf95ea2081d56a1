//! One failover under load: the fault, the times, the repair, and what became of the orders.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use holdfast_sandbox::{PATRONI_TTL, Patroni, PatroniMode};

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

/// Patroni brings a node back within this time, or does not.
const BACK_LIMIT: Duration = Duration::from_mins(1);
/// All lost orders are reported within this time after the last change of the primary.
const REPORT_LIMIT: Duration = Duration::from_secs(20);

/// The metric of orders that replicas have answered and that are gone after a failover.
const REPORTED: &str = "holdfast_orders_lost_total";
/// Those of them that are there again, because the former primary has become the primary again.
const FOUND: &str = "holdfast_orders_found_total";

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
    /// Orders that they report as found again.
    pub found: u64,
    /// Nodes that Patroni did not bring back, and that were copied anew.
    pub copied: usize,
    /// The former primary continued and took the lock from the new one, which Patroni without a watchdog allows. What the new
    /// one has accepted is lost, in each mode, and what only the former one has is there again.
    pub taken_back: bool,
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
            && losses.same_message == 0
            && self.on_standbys == 0;
        let lost = u64::try_from(losses.lost.len()).unwrap_or(u64::MAX);
        let nothing_lost =
            lost == 0 && losses.done_twice.is_empty() && losses.refused_and_there == 0;
        // What is lost may be ordered again.
        let may_lose = mode == PatroniMode::Asynchronous && losses.refused_and_there == 0;
        kept && self.reported == lost + self.found && (nothing_lost || may_lose || self.taken_back)
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
    let found = cluster.counter(FOUND).await?;
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
    let copied = match tokio::time::timeout(BACK_LIMIT, patroni.healthy()).await {
        Ok(healthy) => healthy.map(|_leader| 0)?,
        Err(_) => patroni.copy_broken_nodes().await?,
    };
    patroni.healthy().await?;
    let recovered = begun.elapsed();
    load.more(SOME, cluster.apis.len()).await.context("after the repair")?;

    // Everything up to here is looked for.
    let (accepted, before, refusals, unknown, without) = load.look(|seen| {
        let mut refusals = BTreeMap::<String, usize>::new();
        for (_, words) in seen.refused.iter().skip(refused) {
            *refusals.entry(words.clone()).or_default() += 1;
        }
        let without: Vec<_> = seen.without.iter().skip(without).cloned().collect();
        let accepted: Vec<_> = seen.accepted.iter().skip(first).cloned().collect();
        let before = first.checked_sub(1).and_then(|last| seen.accepted.get(last)).cloned();
        (accepted, before, refusals, seen.unknown.len() - unknown, without)
    });
    // The fault may happen before the first order of the trial.
    let times: Vec<_> = before.iter().chain(&accepted).map(|order| order.at).collect();
    let gaps =
        times.windows(2).filter_map(|pair| Some(pair.last()?.duration_since(*pair.first()?)));
    let reconnected = (0..cluster.apis.len())
        .filter_map(|replica| {
            let after = accepted.iter().find(|it| it.replica == replica && it.at >= writable)?;
            Some(after.at.duration_since(writable))
        })
        .max();
    let on_standbys = on_standbys(patroni).await?;
    let leader = patroni.healthy().await?;
    let may_continue = matches!(fault, FailoverFault::Frozen | FailoverFault::Cut);
    let taken_back = may_continue && leader == old;
    let mut database = patroni.connect(leader, DATABASE).await?;
    let stock =
        load.look(|seen| super::LoadRecord { stock: seen.stock.clone(), ..Default::default() });
    let losses =
        Losses::find(&mut database, &cluster.downstream, &accepted, &without, &stock).await?;
    let lost = u64::try_from(losses.lost.len())?;
    let (reported, found) = reports(cluster, (reported, found), lost).await?;
    Ok(FailoverTrial {
        fault,
        without_orders: gaps.max().unwrap_or_default(),
        elected: writable.duration_since(begun),
        reconnected: reconnected.unwrap_or_default(),
        recovered,
        accepted: accepted.iter().filter(|order| order.at >= begun).count(),
        refused: refusals,
        unknown,
        reported,
        found,
        copied,
        taken_back,
        on_standbys,
        losses,
    })
}

/// The orders that were reported as lost and as found since the counters had these values. Waits for a while for as many as
/// are lost.
async fn reports(
    cluster: &FailoverCluster,
    before: (u64, u64),
    lost: u64,
) -> anyhow::Result<(u64, u64)> {
    let begun = Instant::now();
    loop {
        let reported = cluster.counter(REPORTED).await?.saturating_sub(before.0);
        let found = cluster.counter(FOUND).await?.saturating_sub(before.1);
        if reported == lost + found || begun.elapsed() > REPORT_LIMIT {
            return Ok((reported, found));
        }
        tokio::time::sleep(POLL).await;
    }
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

/// Sessions of Holdfast on nodes that accept no writes. Patroni may still restart such a node.
async fn on_standbys(patroni: &Patroni) -> anyhow::Result<i64> {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast%'";
    let begun = Instant::now();
    loop {
        let leader = patroni.healthy().await?;
        let count = async {
            let mut sessions = 0;
            for node in (0..patroni.size()).filter(|node| *node != leader) {
                let mut connection = patroni.connect(node, DATABASE).await?;
                let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
                sessions += count;
            }
            Ok::<_, anyhow::Error>(sessions)
        };
        match count.await {
            Err(_) if begun.elapsed() < FAILOVER_LIMIT => tokio::time::sleep(POLL).await,
            count => return count,
        }
    }
}
