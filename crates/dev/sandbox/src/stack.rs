//! The processes of `run`. They are started one after the other, and stopped in reverse order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use holdfast_sandbox::{
    Keep, Postgres, PostgresOptions, Process, ProcessOptions, Prometheus, PrometheusOptions, Ready,
    Redis, RedisOptions, Scrape, workspace_binary,
};
use tokio::task::JoinHandle;

use crate::environment::EnvironmentFile;
use crate::terminal::{complain, step};
use crate::{demo, graphs, log_watch};

const MIGRATE_LIMIT: Duration = Duration::from_mins(5);
/// Longer than the shutdown timeouts of the programs.
const STOP_LIMIT: Duration = Duration::from_secs(40);
const TAIL_LINES: usize = 25;
/// Short, because a developer looks at the last few minutes.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(2);
const DATABASE: &str = "holdfast";

/// The addresses of the stack, and the folder of its data.
pub(crate) struct StackSettings {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) api_metrics_port: u16,
    pub(crate) admin_port: u16,
    pub(crate) worker_metrics_port: u16,
    /// `None`: no Prometheus.
    pub(crate) prometheus_port: Option<u16>,
    /// `None`: the data is removed at the end.
    pub(crate) data: Option<PathBuf>,
}

impl StackSettings {
    fn keep(&self, part: &str) -> Keep {
        self.data.as_ref().map_or(Keep::Nothing, |data| Keep::In(data.join(part)))
    }
}

/// The running processes. The fields are dropped in this order, in which they are also stopped.
#[derive(Default)]
pub(crate) struct Stack {
    prometheus: Option<Prometheus>,
    worker: Option<Process>,
    api: Option<Process>,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    watches: Vec<JoinHandle<()>>,
    /// The file with which other terminals can reach the stack, once it is up.
    pub(crate) access: Option<EnvironmentFile>,
}

impl Stack {
    /// Starts everything, and prints a line for each step. Returns the id of a product to order. If this fails or is
    /// cancelled, the processes that are up can still be stopped.
    pub(crate) async fn start(&mut self, plan: &StackSettings) -> anyhow::Result<i64> {
        let (api_binary, worker_binary) =
            (workspace_binary("holdfast-api")?, workspace_binary("holdfast-worker")?);
        let programs = api_binary.parent().context("the programs are in no folder")?;

        let begun = Instant::now();
        let postgres = self.postgres.insert(
            Postgres::start(PostgresOptions {
                durable: true,
                keep: plan.keep("postgres"),
                ..PostgresOptions::default()
            })
            .await?,
        );
        let database_url = postgres.ensure_database(DATABASE).await?;
        step(
            &format!("PostgreSQL {}", postgres.major()),
            begun.elapsed(),
            &folder_of(&postgres.log_path()),
        );

        let begun = Instant::now();
        let redis = self.redis.insert(
            Redis::start(RedisOptions { keep: plan.keep("redis"), ..RedisOptions::default() })
                .await?,
        );
        let redis_url = redis.url();
        step("Redis", begun.elapsed(), &folder_of(&redis.log_path()));

        let process = |binary: &Path, command: &str, folder: &str, metrics_port: u16| {
            let http = SocketAddr::from((plan.host, plan.port));
            let metrics = SocketAddr::from((plan.host, metrics_port));
            let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, plan.admin_port));
            ProcessOptions {
                keep: plan.keep(folder),
                ..ProcessOptions::new(binary)
                    .arg(command)
                    .env("DATABASE_URL", database_url.as_str())
                    .env("REDIS_URL", redis_url.as_str())
                    .env("HOLDFAST_HTTP_ADDR", http.to_string())
                    .env("HOLDFAST_METRICS_ADDR", metrics.to_string())
                    .env("HOLDFAST_ADMIN_ADDR", admin.to_string())
                    .env("HOLDFAST_CONSOLE", "on")
                    // A development machine needs no API keys.
                    .env("HOLDFAST_AUTH", "off")
                    // A user who sets another address wants other hosts to reach it.
                    .env("HOLDFAST_OPEN_TO_NETWORK", (!plan.host.is_loopback()).to_string())
            }
        };

        let begun = Instant::now();
        let options = process(&api_binary, "migrate", "migrate", plan.api_metrics_port);
        Process::start(options).await?.succeeds(MIGRATE_LIMIT).await?;
        step("Migrations", begun.elapsed(), "");

        let begun = Instant::now();
        let options = process(&api_binary, "serve", "api", plan.api_metrics_port)
            .ready(Ready::Http(format!("{}/readyz", api_url(plan))));
        let api = self.api.insert(Process::start(options).await?);
        let api_log = api.log_path().to_owned();
        step("API", begun.elapsed(), &api_log.display().to_string());

        let begun = Instant::now();
        let options = process(&worker_binary, "run", "worker", plan.worker_metrics_port)
            // One of the demo's orders waits until tomorrow. A worker shortens longer waits than this setting.
            .env("HOLDFAST_RETRY_MAX_MS", "86400000")
            .ready(Ready::Tcp(SocketAddr::from((local(plan.host), plan.worker_metrics_port))));
        let worker = self.worker.insert(Process::start(options).await?);
        let worker_log = worker.log_path().to_owned();
        step("Worker", begun.elapsed(), &worker_log.display().to_string());

        if let Some(port) = plan.prometheus_port {
            let begun = Instant::now();
            let prometheus = self.prometheus.insert(observe(plan, port).await?);
            step("Prometheus", begun.elapsed(), prometheus.url());
        }

        let begun = Instant::now();
        let shop = demo::DemoShop {
            api: &api_url(plan),
            admin: &format!("http://127.0.0.1:{}", plan.admin_port),
            database: &database_url,
        };
        let (made, product) = shop.fill().await.context("no demo products")?;
        let detail = if made > 0 { "" } else { "there already" };
        step("Demo products", begun.elapsed(), detail);
        // Only from here on: warnings during the start are either resolved, or the start fails.
        self.watches =
            vec![log_watch::watch("api", api_log), log_watch::watch("worker", worker_log)];

        self.access = Some(EnvironmentFile::write(
            programs,
            plan.port,
            &[
                ("DATABASE_URL", database_url),
                ("REDIS_URL", redis_url),
                ("HOLDFAST_HTTP_ADDR", SocketAddr::from((plan.host, plan.port)).to_string()),
                (
                    "HOLDFAST_METRICS_ADDR",
                    SocketAddr::from((plan.host, plan.api_metrics_port)).to_string(),
                ),
                (
                    "HOLDFAST_ADMIN_ADDR",
                    SocketAddr::from((Ipv4Addr::LOCALHOST, plan.admin_port)).to_string(),
                ),
                ("HOLDFAST_AUTH", "off".to_owned()),
            ],
        )?);
        Ok(product)
    }

    /// The URLs of PostgreSQL and Redis, once they are up.
    pub(crate) fn servers(&self) -> (String, String) {
        let postgres = self.postgres.as_ref().map(|postgres| postgres.database_url(DATABASE));
        (postgres.unwrap_or_default(), self.redis.as_ref().map(Redis::url).unwrap_or_default())
    }

    /// Whether nothing is up: PostgreSQL is the first to start and the last to stop.
    pub(crate) fn is_empty(&self) -> bool {
        self.postgres.is_none()
    }

    /// Waits until one of the processes ends by itself. Returns its name, its exit status and the end of its log.
    pub(crate) async fn ended(&self) -> String {
        tokio::select! {
            words = process_ended("holdfast-worker", self.worker.as_ref()) => words,
            words = process_ended("holdfast-api", self.api.as_ref()) => words,
            words = async {
                let Some(redis) = &self.redis else { std::future::pending().await };
                redis.ended().await;
                ended_with("Redis", &redis.log_tail(TAIL_LINES))
            } => words,
            words = async {
                let Some(postgres) = &self.postgres else { std::future::pending().await };
                postgres.ended().await;
                ended_with("PostgreSQL", &postgres.log_tail(TAIL_LINES))
            } => words,
        }
    }

    /// Stops everything in order, each process within a limit, and prints a line for each.
    pub(crate) async fn stop(&mut self) {
        for watch in self.watches.drain(..) {
            watch.abort();
        }
        if let Some(prometheus) = self.prometheus.take() {
            let begun = Instant::now();
            report("Prometheus", begun, prometheus.shutdown().await);
        }
        stop_process("Worker", self.worker.take()).await;
        stop_process("API", self.api.take()).await;
        if let Some(redis) = self.redis.take() {
            let begun = Instant::now();
            report("Redis", begun, redis.shutdown().await);
        }
        if let Some(postgres) = self.postgres.take() {
            let begun = Instant::now();
            report("PostgreSQL", begun, postgres.shutdown().await);
        }
    }
}

fn folder_of(log: &Path) -> String {
    log.parent().unwrap_or(log).display().to_string()
}

/// A Prometheus that scrapes the API and the worker, with the alerts of the chart.
async fn observe(plan: &StackSettings, port: u16) -> anyhow::Result<Prometheus> {
    let scrape = |job: &str, port: u16| {
        Scrape::new(job, SocketAddr::from((local(plan.host), port)).to_string())
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let rules = root.join("charts/holdfast/files/alerts.yaml").canonicalize();
    let graphs = graphs::page(&root.join("charts/holdfast/dashboards"))?;
    Prometheus::start(PrometheusOptions {
        scrapes: vec![
            scrape("holdfast-api", plan.api_metrics_port),
            scrape("holdfast-worker", plan.worker_metrics_port),
        ],
        rules: vec![rules.context("charts/holdfast/files/alerts.yaml is not there")?],
        interval: SCRAPE_INTERVAL,
        pages: vec![(graphs::PAGE.to_owned(), graphs)],
        port: Some(port),
        keep: plan.keep("prometheus"),
    })
    .await
}

/// The URL of the API for clients on this machine.
pub(crate) fn api_url(plan: &StackSettings) -> String {
    local_url(plan.host, plan.port)
}

/// A URL for a server that listens on `host`.
pub(crate) fn local_url(host: IpAddr, port: u16) -> String {
    match local(host) {
        IpAddr::V4(host) if host.is_loopback() => format!("http://localhost:{port}"),
        host => format!("http://{}", SocketAddr::from((host, port))),
    }
}

/// The address of a server that listens on `host`.
pub(crate) fn local(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

async fn process_ended(name: &str, process: Option<&Process>) -> String {
    const LONG: Duration = Duration::from_hours(1);
    let Some(process) = process else { std::future::pending().await };
    loop {
        if let Some(status) = process.wait(LONG).await {
            return ended_with(&format!("{name} ({status})"), &process.log_tail(TAIL_LINES));
        }
    }
}

fn ended_with(who: &str, tail: &str) -> String {
    match tail {
        "" => format!("{who} ended unexpectedly. Its log is empty."),
        tail => format!("{who} ended unexpectedly. The last lines of its log:\n{tail}"),
    }
}

async fn stop_process(name: &str, process: Option<Process>) {
    let Some(process) = process else { return };
    let begun = Instant::now();
    let stopped = match process.status() {
        Some(_) => Ok(()), // it ended before, and this was reported
        None => process.stop(STOP_LIMIT).await.and_then(check_stopped),
    };
    report(name, begun, stopped);
}

fn check_stopped(status: ExitStatus) -> anyhow::Result<()> {
    if !status.success() {
        bail!("ended with {status}");
    }
    Ok(())
}

fn report(name: &str, begun: Instant, stopped: anyhow::Result<()>) {
    match stopped {
        Ok(()) => step(&format!("{name} stopped"), begun.elapsed(), ""),
        Err(error) => complain(&format!("  {name}: {error:#}")),
    }
}
