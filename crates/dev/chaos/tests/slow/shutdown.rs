//! Replicas are replaced one after the other under load, like in a rollout, behind a load balancer that checks
//! `/readyz`: no request fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdfast_bench::load::Accepted;
use holdfast_chaos::{
    clients::ClientsRecord,
    environment::{Environment, EnvironmentOptions, STOCK},
};
use holdfast_sandbox::{PATIENCE, http_get, until};
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The ready replicas. They are checked as often as load balancers do or less often.
struct Balancer {
    replicas: Vec<(SocketAddr, SocketAddr)>,
    ready: RwLock<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Balancer {
    async fn look(&self) {
        let mut ready = Vec::new();
        for (public, internal) in &self.replicas {
            let answer = http_get(&format!("http://{internal}/readyz")).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                ready.push(*public);
            }
        }
        *self.ready.write() = ready;
    }

    fn pick(&self) -> Option<SocketAddr> {
        let ready = self.ready.read();
        ready.get(self.next.fetch_add(1, Ordering::Relaxed) % ready.len().max(1)).copied()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_under_load_fails_no_request() {
    let environment = Environment::start(&EnvironmentOptions::default()).await.unwrap();
    let balancer = Arc::new(Balancer {
        replicas: environment.apis.iter().map(|it| (it.address(), it.internal())).collect(),
        ready: RwLock::default(),
        next: AtomicUsize::new(0),
    });
    balancer.look().await;
    let (ended, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let failed = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    {
        let (balancer, ended) = (Arc::clone(&balancer), Arc::clone(&ended));
        tasks.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                balancer.look().await;
                // As often as a load balancer checks.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    for client in 0..8 {
        let (balancer, ended, accepted, failed, http) = (
            Arc::clone(&balancer),
            Arc::clone(&ended),
            Arc::clone(&accepted),
            Arc::clone(&failed),
            http.clone(),
        );
        tasks.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let Some(replica) = balancer.pick() else {
                    failed.lock().push("no replica is ready".to_owned());
                    return;
                };
                let order = json!({"product_id": 1 + client % 4, "quantity": 1});
                match http.post(format!("http://{replica}/orders")).json(&order).send().await {
                    Ok(answer) if answer.status() == 201 => {
                        let body: Value = answer.json().await.unwrap_or_default();
                        accepted.lock().push(Accepted {
                            id: body["id"].as_i64().unwrap_or_default(),
                            product_id: 1 + client % 4,
                            quantity: 1,
                        });
                    }
                    Ok(answer) => failed.lock().push(format!("{replica}: {}", answer.status())),
                    Err(error) => failed.lock().push(format!("{replica}: {error:?}")),
                }
                // Leaves CPU time for the programs that start and end.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let more = async || {
        let before = accepted.lock().len();
        until("more orders are accepted", async || {
            let more = accepted.lock().len() >= before + 100;
            more.then_some(()).ok_or_else(|| format!("{:?}", failed.lock()))
        })
        .await;
    };
    more().await;
    for member in environment.workers.iter().chain(&environment.apis) {
        member.terminate(PATIENCE).await.unwrap();
        more().await;
        member.start().await.unwrap();
        environment.ready(PATIENCE).await.unwrap();
        // Until the load balancer has noticed it, too.
        more().await;
    }
    ended.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    assert_eq!(*failed.lock(), Vec::<String>::new());
    let mut seen = ClientsRecord::default();
    seen.log.initial_stock = environment.products.iter().map(|id| (*id, STOCK)).collect();
    seen.log.accepted = std::mem::take(&mut accepted.lock());
    let findings = environment.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold() && findings.orders >= 1000, "{findings}");
    assert_eq!(
        environment.downstream.counts().1,
        0,
        "no order was fulfilled twice: it was handed over"
    );
}
