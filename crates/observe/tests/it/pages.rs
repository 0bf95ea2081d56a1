//! A small HTTP server: pages of metrics that cannot be had from a process here, and the receiver
//! of the webhook.

use std::net::SocketAddr;

use axum::{Router, routing};
use tokio::net::TcpListener;

use crate::exported;

/// What kube-state-metrics shows of an HPA, by its documentation
/// (<https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/horizontalpodautoscaler-metrics.md>).
const KUBE_STATE_METRICS: &str = "\
# TYPE kube_horizontalpodautoscaler_status_desired_replicas gauge
kube_horizontalpodautoscaler_status_desired_replicas{namespace=\"shop\",horizontalpodautoscaler=\"a-holdfast-worker\"} 2
# TYPE kube_horizontalpodautoscaler_spec_max_replicas gauge
kube_horizontalpodautoscaler_spec_max_replicas{namespace=\"shop\",horizontalpodautoscaler=\"a-holdfast-worker\"} 10
";

/// Serves until the test ends.
pub async fn serve() -> SocketAddr {
    // The operator needs a Kubernetes to start; its own binary prints the page. Where it knows
    // nothing yet, a number stands for it.
    let operator = exported::page("holdfast-operator").replace("NaN", "2e9");
    let app = Router::new()
        .route("/operator/metrics", routing::get(|| async move { operator }))
        .route("/kube-state-metrics/metrics", routing::get(|| async { KUBE_STATE_METRICS }))
        .route("/webhook", routing::post(|| async {}));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
