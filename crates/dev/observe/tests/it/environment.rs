//! Real processes, scraped by a real Prometheus: an API, two workers (one whose attempts sometimes fail, one that sends
//! webhooks), and their own PostgreSQL and Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdfast_sandbox::{
    PATIENCE, Port, Process, ProcessOptions, Prometheus, PrometheusOptions, Ready, Redis,
    RedisOptions, Scrape, http_get, metric, shared_postgres, until, workspace_binary,
};

use crate::pages::{self, Pages};
use crate::{alerts, root};

pub struct ObserveEnvironment {
    pub prometheus: Prometheus,
    /// Half of its attempts fail, and it gives up after few attempts.
    pub failing: Process,
    /// The receiver of the other worker's webhooks.
    pub refusing: Arc<AtomicBool>,
    pub redis: Redis,
    pub database_url: String,
    pub api_url: String,
    api_metrics: SocketAddr,
    worker_metrics: [SocketAddr; 2],
    _processes: [Process; 3],
    _ports: Vec<Port>,
}

impl ObserveEnvironment {
    pub async fn open() -> Self {
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        let postgres = shared_postgres().await.unwrap();
        let database_url = postgres.create_database().await.unwrap();
        let ports: Vec<_> = (0..6).map(|_| Port::lease().unwrap()).collect();
        let [http, api, other_http, other_api, failing, sender] =
            [0, 1, 2, 3, 4, 5].map(|it: usize| ports[it].address());
        let Pages { address: pages, refusing } = pages::serve().await;

        let process = |program: &str, command: &str, metrics: SocketAddr| {
            ProcessOptions::new(workspace_binary(program).unwrap())
                .arg(command)
                .env("DATABASE_URL", &database_url)
                .env("REDIS_URL", redis.url())
                .env("HOLDFAST_METRICS_ADDR", metrics.to_string())
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{pages}"))
        };
        let migrate = Process::start(process("holdfast-api", "migrate", api)).await.unwrap();
        assert!(migrate.wait(PATIENCE).await.unwrap().success(), "{}", migrate.log_tail(10));
        let serve = |http: SocketAddr, metrics: SocketAddr| {
            process("holdfast-api", "serve", metrics)
                .env("HOLDFAST_HTTP_ADDR", http.to_string())
                .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
                .env("HOLDFAST_AUTH", "off")
                .env("HOLDFAST_LOCK_TIMEOUT_MS", "100")
                .env("HOLDFAST_HOLD_EXPIRY_INTERVAL_MS", "200")
                .env("HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS", "80")
                .ready(Ready::Http(format!("http://{metrics}/readyz")))
        };
        let api_process = Process::start(serve(http, api)).await.unwrap();
        let other_process = Process::start(serve(other_http, other_api)).await.unwrap();
        let worker = |metrics: SocketAddr| {
            process("holdfast-worker", "run", metrics)
                .env("HOLDFAST_LEASE_MS", "1500")
                .env("HOLDFAST_SWEEP_INTERVAL_MS", "200")
                .env("HOLDFAST_SWEEP_AFTER_MS", "1000")
                .env("HOLDFAST_RETRY_BASE_MS", "100")
                .env("HOLDFAST_RETRY_MAX_MS", "200")
                .env("HOLDFAST_MAX_ATTEMPTS", "2")
                // Too few for the load, so that some requests wait.
                .env("HOLDFAST_WORKER_CONCURRENCY", "8")
                .env("HOLDFAST_WORKER_BATCH", "4")
                .ready(Ready::Tcp(metrics))
        };
        let sender_process = Process::start(
            worker(sender)
                .env("HOLDFAST_FULFILMENT", "webhook")
                .env("HOLDFAST_WEBHOOK_URL", format!("http://{pages}/webhook"))
                .env(
                    "HOLDFAST_WEBHOOK_SECRET",
                    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                )
                .env("HOLDFAST_WEBHOOK_CONNECTIONS", "2")
                .env("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "true"),
        )
        .await
        .unwrap();
        let failing_process = Process::start(
            worker(failing)
                .env("HOLDFAST_FULFILMENT_MS", "300")
                .env("HOLDFAST_FULFILMENT_FAIL_PERCENT", "50"),
        )
        .await
        .unwrap();

        // The names that the chart's monitors use.
        let scrape = |job: &str, target: SocketAddr, pod: &str| {
            Scrape::new(job, target.to_string())
                .label("namespace", "shop")
                .label("release", "a")
                .label("pod", pod)
        };
        let prometheus = Prometheus::start(PrometheusOptions {
            scrapes: vec![
                scrape("holdfast-api", api, "api-1"),
                scrape("holdfast-api-other", other_api, "api-2"),
                scrape("holdfast-worker", sender, "worker-1"),
                scrape("holdfast-worker-failing", failing, "worker-2"),
                scrape("holdfast-operator", pages, "operator-1").at("/operator/metrics"),
                Scrape::new("kube-state-metrics", pages.to_string())
                    .at("/kube-state-metrics/metrics")
                    .honor_labels(),
            ],
            rules: vec![root().join(alerts::ALERTS)],
            interval: Duration::from_secs(1),
            ..PrometheusOptions::default()
        })
        .await
        .unwrap();
        Self {
            prometheus,
            failing: failing_process,
            refusing,
            redis,
            api_url: format!("http://{http}"),
            database_url,
            api_metrics: api,
            worker_metrics: [sender, failing],
            _processes: [api_process, other_process, sender_process],
            _ports: ports,
        }
    }

    /// Waits until Prometheus has seen a value above 0 of a metric.
    pub async fn seen(&self, metric: &str) {
        until(metric, async || self.has_seen(metric).await).await;
    }

    /// Whether Prometheus has seen a value above 0 of a metric.
    pub async fn has_seen(&self, metric: &str) -> bool {
        let question = format!("max(max_over_time({metric}[5m])) > 0");
        !self.prometheus.query(&question).await.unwrap().is_empty()
    }

    /// The sum of a metric of the API.
    pub async fn api_metric(&self, series: &str) -> f64 {
        scraped(self.api_metrics, series).await
    }

    /// The sum of a metric of the worker that sends webhooks.
    pub async fn sender_metric(&self, series: &str) -> f64 {
        scraped(self.worker_metrics[0], series).await
    }

    /// The sum of a metric of the worker whose attempts sometimes fail.
    pub async fn failing_metric(&self, series: &str) -> f64 {
        scraped(self.worker_metrics[1], series).await
    }
}

async fn scraped(address: SocketAddr, series: &str) -> f64 {
    let page = http_get(&format!("http://{address}/metrics")).await.unwrap();
    metric(&page.body, series)
}
