//! A small HTTP server: pages of metrics that no process in this test exports, the webhook receiver and a trace
//! collector.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::{Router, http::StatusCode, routing};
use tokio::net::TcpListener;

use crate::exported;

/// The metrics of kube-state-metrics about an HPA, from its documentation
/// (<https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/horizontalpodautoscaler-metrics.md>).
const KUBE_STATE_METRICS: &str = "\
# TYPE kube_horizontalpodautoscaler_status_desired_replicas gauge
kube_horizontalpodautoscaler_status_desired_replicas{namespace=\"shop\",horizontalpodautoscaler=\"a-holdfast-worker\"} 2
# TYPE kube_horizontalpodautoscaler_spec_max_replicas gauge
kube_horizontalpodautoscaler_spec_max_replicas{namespace=\"shop\",horizontalpodautoscaler=\"a-holdfast-worker\"} 10
";

/// How long the webhook receiver takes for an order.
const THINKS: Duration = Duration::from_millis(40);

/// Serves the pages until it is dropped.
pub struct Pages {
    pub address: SocketAddr,
    /// Whether the webhook receiver refuses all orders with 503.
    pub refusing: Arc<AtomicBool>,
}

/// Starts the server.
pub async fn serve() -> Pages {
    let operator = exported::page("holdfast-operator");
    let state = Arc::new((operator, AtomicU64::new(0)));
    let operator =
        move || std::future::ready(at_work(&state.0, state.1.fetch_add(1, Ordering::Relaxed)));
    let refusing = Arc::new(AtomicBool::new(false));
    let refuses = Arc::clone(&refusing);
    let webhook = move || async move {
        // So that orders stay in flight for a while.
        tokio::time::sleep(THINKS).await;
        if refuses.load(Ordering::Relaxed) {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    };
    let app = Router::new()
        .route("/operator/metrics", routing::get(operator))
        .route("/kube-state-metrics/metrics", routing::get(|| async { KUBE_STATE_METRICS }))
        .route("/webhook", routing::post(webhook))
        // The trace collector, which discards what it gets.
        .route("/v1/traces", routing::post(|| async {}));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Pages { address, refusing }
}

/// The operator needs Kubernetes to start. This is the page that its binary prints without Kubernetes, with all values
/// set to `count`, and times where they are unknown.
fn at_work(page: &str, count: u64) -> String {
    let counted = |series: &str| {
        let name = series.split('{').next().unwrap_or_default();
        ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end))
    };
    let lines = page.lines().map(|line| match line.rsplit_once(' ') {
        Some((series, _)) if !line.starts_with('#') && counted(series) => {
            format!("{series} {count}\n")
        }
        _ => format!("{}\n", line.replace("NaN", "2e9")),
    });
    lines.collect()
}
