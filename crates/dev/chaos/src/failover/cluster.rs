//! A complete Holdfast on a cluster of three nodes: two API replicas, a worker, Redis, and a receiver of orders.

use std::time::Duration;

use anyhow::Context as _;
use holdfast_bench::audit::{Expectation, Findings, Log, audit};
use holdfast_bench::environment::all_final;
use holdfast_sandbox::{
    Patroni, PatroniMode, Program, Redis, RedisOptions, find_metric, http_get, migrate,
    workspace_binary,
};
use sqlx::PgConnection;

use super::LoadRecord;
use crate::downstream::Downstream;

pub(super) const DATABASE: &str = "holdfast";
const READY: Duration = Duration::from_mins(1);
const FINAL: Duration = Duration::from_mins(2);
/// Units of the product that is always sold.
const STOCK: i64 = 10_000_000;

/// A running Holdfast on a cluster. Everything ends on drop.
#[derive(Debug)]
pub struct FailoverCluster {
    /// Replicas of the API.
    pub apis: Vec<Program>,
    worker: Program,
    /// The receiver of orders.
    pub downstream: Downstream,
    _redis: Redis,
    /// The nodes.
    pub patroni: Patroni,
    /// The mode.
    pub mode: PatroniMode,
}

impl FailoverCluster {
    /// Starts everything. Returns when all is ready.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(mode: PatroniMode) -> anyhow::Result<Self> {
        let (patroni, redis, downstream) = tokio::try_join!(
            Patroni::start(mode),
            Redis::start(RedisOptions::default()),
            Downstream::start()
        )?;
        let leader = patroni.healthy().await?;
        let mut connection = patroni.connect(leader, "postgres").await?;
        sqlx::query("CREATE DATABASE holdfast").execute(&mut connection).await?;
        let (url, redis_url) = (patroni.database_url(DATABASE), redis.url());
        let binary = workspace_binary("holdfast-api")?;
        migrate(&binary, &url).await?;
        let apis = (0..2)
            .map(|_| Program::api(&binary, &url, &redis_url))
            .collect::<Result<Vec<_>, _>>()?;
        let worker = downstream.worker(&url, &redis_url)?;
        let cluster = Self { apis, worker, downstream, _redis: redis, patroni, mode };
        cluster.add_product(STOCK).await?;
        for program in cluster.apis.iter().chain([&cluster.worker]) {
            program.start().await?;
        }
        for program in cluster.apis.iter().chain([&cluster.worker]) {
            program.ready(READY).await?;
        }
        Ok(cluster)
    }

    /// A connection to the primary, without its proxy.
    ///
    /// # Errors
    /// There is none.
    pub async fn primary(&self) -> anyhow::Result<PgConnection> {
        let leader = self.patroni.leader().await.context("there is no primary")?;
        self.patroni.connect(leader, DATABASE).await
    }

    /// Adds a product with this many units; returns its id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_product(&self, stock: i64) -> anyhow::Result<i64> {
        let sql = "INSERT INTO products (name, description, price_minor, stock) \
             VALUES ('Lamp', '', 100, $1) RETURNING id";
        Ok(sqlx::query_scalar(sql).bind(stock).fetch_one(&mut self.primary().await?).await?)
    }

    /// The sum of a counter of both replicas; 0 if it has not begun.
    ///
    /// # Errors
    /// A replica does not answer.
    pub async fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let mut sum = 0.0;
        for api in &self.apis {
            let page = http_get(&format!("http://{}/metrics", api.internal())).await?;
            sum += find_metric(&page.body, name).unwrap_or_default();
        }
        Ok(sum as u64)
    }

    /// Waits until all orders are final, and compares the database with the answers to the clients, without the orders in
    /// `lost`. So many orders as `back` exist although their requests were refused, because a former primary is back.
    ///
    /// # Errors
    /// The database cannot be read. A violation is a finding.
    pub async fn audit(
        &self,
        seen: &LoadRecord,
        lost: &[String],
        back: u64,
    ) -> anyhow::Result<Findings> {
        let leader = self.patroni.healthy().await?;
        all_final(&mut self.patroni.connect(leader, DATABASE).await?, FINAL).await?;
        let log = Log {
            initial_stock: [(1, STOCK)].into_iter().chain(seen.stock.clone()).collect(),
            accepted: seen
                .accepted
                .iter()
                .filter(|order| !lost.contains(&order.customer))
                .map(|order| order.order)
                .collect(),
            cut_off: seen.unresolved + back,
            fulfilled: self.downstream.fulfilled(),
            ..Log::default()
        };
        let expectation = Expectation { all_completed: true, all_final: true };
        let url = self.patroni.direct_url(leader, DATABASE);
        let mut findings = audit(&url, Some(&log), expectation).await?;
        findings.violations.extend(seen.wrong.iter().map(|it| format!("a wrong answer: {it}")));
        Ok(findings)
    }
}
