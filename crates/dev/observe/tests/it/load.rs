//! A short load in which everything happens at least once: accepted, refused, repeated and cancelled orders; holds;
//! reads; a row lock of another session; a failure of Redis; a frozen worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_sandbox::until;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::environment::ObserveEnvironment;

/// Requests that continue until this is dropped.
pub struct Load(Arc<AtomicBool>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client of the API.
#[derive(Clone)]
struct ApiCaller {
    client: Client,
    url: String,
}

impl ApiCaller {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or_default()))
    }

    async fn post(&self, path: &str, body: Value) -> Option<(u16, Value)> {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn product(&self, name: &str, stock: u64) -> i64 {
        let new = json!({ "name": name, "price": 9.9, "stock": stock });
        let (status, product) = self.post("/products", new).await.unwrap();
        assert_eq!(status, 201, "{product}");
        product["id"].as_i64().unwrap()
    }

    /// Sends one request of each kind.
    async fn round(&self, products: [i64; 3], number: u64) {
        let [hot, plenty, sold_out] = products;
        let order = |product: i64| json!({ "product_id": product, "quantity": 1 });
        for _ in 0..4 {
            self.post("/orders", order(hot)).await;
        }
        let placed = self.post("/orders", order(plenty)).await;
        if let Some((201, placed)) = placed {
            self.send(Method::POST, &format!("/orders/{}/cancel", placed["id"]), None).await;
        }
        self.post("/orders", order(sold_out)).await;
        self.post("/orders", order(999_999)).await;
        self.post("/orders", json!({})).await;
        for _ in 0..2 {
            let keyed = self
                .client
                .post(format!("{}/orders", self.url))
                .header("idempotency-key", format!("key-{number}"));
            let _ = keyed.json(&order(plenty)).send().await;
        }
        let hold = json!({ "product_id": plenty, "quantity": 1, "seconds": 1 });
        self.post("/holds", hold.clone()).await;
        if let Some((201, held)) = self.post("/holds", hold).await {
            let path = format!("/holds/{}", held["id"].to_string().trim_matches('"'));
            self.send(Method::DELETE, &path, None).await;
        }
        for product in [hot, plenty, sold_out] {
            self.send(Method::GET, &format!("/products/{product}"), None).await;
        }
        self.send(Method::GET, "/products", None).await;
    }
}

/// Starts the requests.
pub async fn begin(environment: &ObserveEnvironment) -> (Load, i64) {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let first = ApiCaller { client, url: environment.api_url.clone() };
    let products = [
        first.product("hot", 1_000_000).await,
        first.product("plenty", 1_000_000).await,
        first.product("sold out", 0).await,
    ];
    let ended = Arc::new(AtomicBool::new(false));
    for task in 0..4_u64 {
        let (caller, over) = (first.clone(), Arc::clone(&ended));
        tokio::spawn(async move {
            let mut number = task << 32;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                caller.round(products, number).await;
                // Leaves CPU time for the servers.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    (Load(ended), products[0])
}

/// Locks the hot product's row for longer than orders wait.
pub async fn lock_the_hot_product(environment: &ObserveEnvironment, hot: i64) {
    let mut connection = PgConnection::connect(&environment.database_url).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM products WHERE id = $1 FOR UPDATE")
        .bind(hot)
        .execute(&mut *transaction)
        .await
        .unwrap();
    // Clients that do not wait for an answer.
    let hasty = Client::builder().no_proxy().timeout(Duration::from_millis(30)).build().unwrap();
    until("orders are refused because of the lock, and cancelled", async || {
        let order = json!({ "product_id": hot, "quantity": 1 });
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let url = format!("{}/orders", environment.api_url);
            crowd.spawn(hasty.post(url).json(&order).send());
        }
        crowd.join_all().await;
        environment.has_seen("holdfast_lane_depth_orders").await
            && environment
                .api_metric("holdfast_orders_refused_total{reason=\"lock_timeout\"}")
                .await
                > 0.0
            && environment.api_metric("holdfast_orders_abandoned_total").await > 0.0
    })
    .await;
    transaction.rollback().await.unwrap();
}

/// Opens more connections than one address may have.
pub async fn crowd(environment: &ObserveEnvironment) {
    let address = environment.api_url.trim_start_matches("http://").parse().unwrap();
    // They stay open until the refusals are measured.
    let mut crowd = Vec::new();
    for _ in 0..150 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // Another address than that of the other requests.
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        crowd.push(socket.connect(address).await);
    }
    until("connections are refused", async || {
        environment.api_metric("holdfast_http_connections_refused_total").await > 0.0
    })
    .await;
}

/// Kills Redis and starts it again without data.
pub async fn lose_redis(environment: &ObserveEnvironment) {
    environment.redis.kill9().await.unwrap();
    environment.seen("holdfast_cache_owed_invalidations").await;
    until("it is noticed that Redis is gone", async || {
        environment.api_metric("holdfast_orders_unpublished_total").await > 0.0
            && environment.api_metric("holdfast_cache_owed_total").await > 0.0
            && environment
                .sender_metric("holdfast_maintenance_failures_total{task=\"queue_depth\"}")
                .await
                > 0.0
    })
    .await;
    environment.redis.restart().await.unwrap();
    until("the sweep finds the unpublished orders", async || {
        // A worker publishes the pending orders again.
        let found = "holdfast_sweep_found_total";
        environment.sender_metric(found).await + environment.failing_metric(found).await > 0.0
            && environment.api_metric("holdfast_cache_repaid_total").await > 0.0
    })
    .await;
}

/// Freezes a worker that is processing orders, for longer than its lease, so that its outcomes come too late. If it had
/// already finished the orders that were taken over, it is frozen again.
pub async fn freeze_a_worker(environment: &ObserveEnvironment) {
    let taken_over = async || {
        (
            environment.sender_metric("holdfast_fulfilment_claims_taken_over_total").await,
            environment.sender_metric("holdfast_queue_taken_over_total").await,
        )
    };
    until("it comes too late", async || {
        until("it has orders in flight", async || {
            environment.failing_metric("holdfast_in_flight_orders").await > 2.0
        })
        .await;
        let before = taken_over().await;
        environment.failing.pause().unwrap();
        until("another worker takes over", async || {
            let now = taken_over().await;
            let done = now.0 > before.0 && now.1 > before.1;
            if done { Ok(()) } else { Err(format!("claims, messages: {now:?}, before {before:?}")) }
        })
        .await;
        environment.failing.resume().unwrap();
        let claimed = environment.failing_metric("holdfast_fulfilment_claimed_total").await;
        until("it continues", async || {
            environment.failing_metric("holdfast_fulfilment_claimed_total").await > claimed
        })
        .await;
        environment.failing_metric("holdfast_fulfilment_fenced_total").await > 0.0
    })
    .await;
}

/// Lets the webhook receiver fail for a while.
pub async fn confuse_the_receiver(environment: &ObserveEnvironment) {
    environment.refusing.store(true, Ordering::Relaxed);
    environment.seen("holdfast_webhook_paused").await;
    environment.refusing.store(false, Ordering::Relaxed);
}
