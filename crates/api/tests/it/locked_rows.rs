//! Rows that other sessions have locked delay the requests that need them, and no others, on every writing route.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use holdfast_sandbox::until;
use holdfast_store::IdempotencyKey;
use reqwest::Method;
use serde_json::Value;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::task::JoinSet;

use crate::{
    client::Client,
    hang_ups::{Trial, WriteTarget, write_case},
    server,
};

/// The number of clients that want the same locked rows.
const CALLERS: usize = 64;

/// The same on the admin port, which has few connections.
const ADMIN_CALLERS: usize = 32;

/// The operations that need no existing row.
const NEW_ROWS: [&str; 3] = ["post /products", "post /api-keys", "put /log-level"];

/// The operations with an `Idempotency-Key`.
const KEYED: [&str; 3] = ["post /orders", "post /holds", "post /products/{id}/stock"];

/// A request that is sent repeatedly.
#[derive(Clone)]
struct WaitingRequest {
    client: Client,
    method: Method,
    path: String,
    body: Value,
    key: Option<String>,
}

impl WaitingRequest {
    /// Sent by this many clients.
    fn by_many(self, trial: &Trial) -> Vec<Self> {
        let is_admin = self.client.address == trial.server.admin.address;
        vec![self; if is_admin { ADMIN_CALLERS } else { CALLERS }]
    }

    fn of(trial: &Trial, operation: &str, given: &WriteTarget, key: Option<&str>) -> Self {
        let (_, is_admin) = trial.operations.iter().find(|(name, _)| name == operation).unwrap();
        let client = if *is_admin { &trial.server.admin } else { &trial.server.api };
        let case = write_case(operation, given).unwrap();
        Self {
            client: client.clone(),
            method: case.method,
            path: case.path,
            body: case.body,
            key: key.map(ToOwned::to_owned),
        }
    }

    /// Sends it. Returns an answer that is not caused by the locked row.
    async fn other_answer(&self) -> Option<String> {
        let mut headers = Vec::new();
        let body = if self.body.is_null() {
            String::new()
        } else {
            headers.push(("content-type", "application/json"));
            self.body.to_string()
        };
        headers.extend(self.key.as_deref().map(|key| ("idempotency-key", key)));
        let answer = self.client.send(self.method.clone(), &self.path, &headers, body).await;
        if self.path == "/dead-letters/replay" && answer.status == 200 {
            // The answer names the orders that were not replayed.
            let none = answer.json()["replayed"].as_array().is_some_and(Vec::is_empty);
            return (!none).then_some(answer.text);
        }
        // On a busy machine, a request can wait for its turn until it is refused as overload.
        let types = ["/problems/locked", "/problems/overloaded"].map(Value::from);
        let expected = answer.status == 503 && types.contains(&answer.json()["type"]);
        (!expected).then(|| format!("{} {}: {}", self.method, self.path, answer.text))
    }
}

/// Requests that wait for locked rows, sent by many clients until they are stopped.
struct Waiting {
    stop: Arc<AtomicBool>,
    others: Arc<Mutex<Vec<String>>>,
    clients: JoinSet<()>,
}

impl Waiting {
    /// Returns when this many wait.
    async fn begin(trial: &Trial, requests: Vec<WaitingRequest>) -> Self {
        let (stop, others) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let mut clients = JoinSet::new();
        let wait = requests.len() as u64;
        for request in requests {
            let (stop, others) = (Arc::clone(&stop), Arc::clone(&others));
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let other = request.other_answer().await;
                    // Afterwards the rows may be unlocked.
                    if !stop.load(Ordering::Relaxed) {
                        others.lock().unwrap().extend(other);
                    }
                }
            });
        }
        let in_flight = "holdfast_http_requests_in_flight";
        trial
            .server
            .until("they wait", async || trial.server.metric(in_flight).await >= wait * 9 / 10)
            .await;
        Self { stop, others, clients }
    }

    async fn end(mut self, holder: Transaction<'static, Postgres>) {
        self.stop.store(true, Ordering::Relaxed);
        holder.rollback().await.unwrap();
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        let others = self.others.lock().unwrap().clone();
        assert!(others.is_empty(), "not caused by a locked row: {others:#?}");
    }
}

/// Locks all these rows.
async fn lock(look: &PgPool, given: &[WriteTarget]) -> Transaction<'static, Postgres> {
    let mut holder = look.begin().await.unwrap();
    let ids = |id: fn(&WriteTarget) -> i64| given.iter().map(id).collect::<Vec<_>>();
    let orders = [ids(|it| it.pending), ids(|it| it.failed)].concat();
    for (table, ids) in
        [("products", ids(|it| it.product)), ("orders", orders), ("holds", ids(|it| it.hold))]
    {
        let sql =
            sqlx::AssertSqlSafe(format!("SELECT FROM {table} WHERE id = ANY ($1) FOR UPDATE"));
        sqlx::query(sql).bind(ids).execute(&mut *holder).await.unwrap();
    }
    for (table, column, names) in [
        ("sales", "name", given.iter().map(WriteTarget::sale).collect::<Vec<_>>()),
        ("api_keys", "id", given.iter().map(WriteTarget::key).collect()),
    ] {
        let sql = format!("SELECT FROM {table} WHERE {column} = ANY ($1) FOR UPDATE");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(names).execute(&mut *holder).await.unwrap();
    }
    holder
}

/// Writes keys without committing them.
async fn write_keys(holder: &mut Transaction<'static, Postgres>, keys: &[&str]) {
    for key in keys {
        let id = IdempotencyKey::new("", key, b"").id();
        sqlx::query("INSERT INTO idempotency_keys VALUES ($1::uuid, 1, 'order', 1)")
            .bind(uuid::Uuid::from_u128(id))
            .execute(&mut **holder)
            .await
            .unwrap();
    }
}

/// Every operation on rows that are not locked, and reads.
async fn all_others_work(trial: &Trial, beside: &str) {
    for (at, (operation, _)) in trial.operations.iter().enumerate() {
        // On a busy machine, it may be refused as overload first.
        until(&format!("{operation} beside {beside}"), async || trial.write(at).await).await;
        for list in ["/products", "/orders", "/holds"] {
            assert_eq!(trial.server.api.get(list).await.status, 200, "{list} beside {beside}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_each_writing_route_that_wait_for_a_locked_row_delay_no_others() {
    let trial = Trial::on(&server::database().await, &[]).await;
    for (operation, _) in &trial.operations {
        if NEW_ROWS.contains(&&**operation) {
            continue;
        }
        let given = trial.given(true).await;
        let holder = lock(&trial.look, std::slice::from_ref(&given)).await;
        let request = WaitingRequest::of(&trial, operation, &given, None);
        let waiting = Waiting::begin(&trial, request.by_many(&trial)).await;
        all_others_work(&trial, operation).await;
        waiting.end(holder).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_for_a_locked_key_delay_no_others() {
    let trial = Trial::on(&server::database().await, &[]).await;
    for operation in KEYED {
        let given = trial.given(true).await;
        let mut holder = trial.look.begin().await.unwrap();
        write_keys(&mut holder, &[operation]).await;
        let request = WaitingRequest::of(&trial, operation, &given, Some(operation));
        let waiting = Waiting::begin(&trial, request.by_many(&trial)).await;
        all_others_work(&trial, operation).await;
        waiting.end(holder).await;
    }
}

/// 30 products with their orders, holds, sales and API keys, and a key for each operation with keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_all_writing_routes_that_wait_for_locked_rows_delay_no_others() {
    let trial = Trial::on(&server::database().await, &[]).await;
    let mut given = Vec::new();
    for _ in 0..30 {
        given.push(trial.given(true).await);
    }
    let mut holder = lock(&trial.look, &given).await;
    write_keys(&mut holder, &KEYED).await;
    let mut requests = Vec::new();
    for (operation, is_admin) in &trial.operations {
        if NEW_ROWS.contains(&&**operation) {
            continue;
        }
        let given = &given[..if *is_admin { 5 } else { given.len() }];
        requests.extend(given.iter().map(|it| WaitingRequest::of(&trial, operation, it, None)));
    }
    let free = trial.given(true).await;
    requests.extend(
        KEYED.map(|operation| WaitingRequest::of(&trial, operation, &free, Some(operation))),
    );
    assert!(requests.len() > 200, "{}", requests.len());
    let waiting = Waiting::begin(&trial, requests).await;
    for _ in 0..3 {
        all_others_work(&trial, "all of them").await;
    }
    waiting.end(holder).await;
}
