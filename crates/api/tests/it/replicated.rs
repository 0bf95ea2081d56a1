//! The wait of a commit for a synchronous standby is cancelled: the answers that clients of the API get.

use std::time::Duration;

use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions, until};
use holdfast_store::{Store, StoreSettings};
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgConnectOptions, postgres::PgPoolOptions};

use crate::{client::ApiAnswer, server::Server};

/// Shorter limits than the defaults, so that an unknown outcome is answered soon.
const LIMITS: [(&str, &str); 3] = [
    ("HOLDFAST_LOCK_TIMEOUT_MS", "500"),
    ("HOLDFAST_STATEMENT_TIMEOUT_MS", "1000"),
    ("HOLDFAST_OUTCOME_TIMEOUT_MS", "1000"),
];

struct ReplicatedShop {
    _primary: Postgres,
    standby: Postgres,
    server: Server,
    product: i64,
    /// Its own commits do not wait for the standby.
    look: PgPool,
}

impl ReplicatedShop {
    /// A shop without log output, whose database has a synchronous standby.
    async fn open() -> Self {
        let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
        let url = primary.create_database().await.unwrap();
        Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
        let standby = primary.synchronous_standby().await.unwrap();
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        let server = Server::on(&url, redis, &LIMITS).await;
        let product = server.product(1000).await;
        let quiet = server.admin.put("/log-level", &json!({ "log": "off" })).await;
        assert_eq!(quiet.status, 200, "{}", quiet.text);
        let local = url.parse::<PgConnectOptions>().unwrap();
        let local = local.options([("synchronous_commit", "local")]);
        let look = PgPoolOptions::new().connect_with(local).await.unwrap();
        Self { _primary: primary, standby, server, product, look }
    }

    /// Ends each wait for the standby repeatedly with this function, until the request is answered.
    async fn while_waits_end(
        &self,
        function: &str,
        answer: impl Future<Output = ApiAnswer>,
    ) -> ApiAnswer {
        let sql = format!(
            "SELECT count({function}(pid)) FROM pg_stat_activity \
             WHERE wait_event = 'SyncRep' AND application_name = 'holdfast'"
        );
        let ending = async {
            loop {
                let sql = sqlx::AssertSqlSafe(sql.clone());
                sqlx::query_scalar::<_, i64>(sql).fetch_one(&self.look).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            answer = answer => answer,
            () = ending => unreachable!(),
        }
    }

    async fn order(&self, key: &str) -> ApiAnswer {
        let body = json!({ "product_id": self.product, "quantity": 1 }).to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.server.api.send(reqwest::Method::POST, "/orders", &headers, body).await
    }
}

fn unknown(answer: &ApiAnswer) -> bool {
    answer.status == 503 && answer.problem()["type"] == "/problems/outcome-unknown"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_an_order_that_only_the_primary_has_nor_its_repeat_is_answered_with_201() {
    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        let shop = ReplicatedShop::open().await;
        shop.standby.pause().await.unwrap();
        let first = shop.while_waits_end(function, shop.order("a")).await;
        assert!(unknown(&first), "{function}: {}", first.text);
        let orders = "SELECT count(*) FROM orders";
        until("the order can be seen", async || {
            sqlx::query_scalar::<_, i64>(orders).fetch_one(&shop.look).await.unwrap() == 1
        })
        .await;
        let repeat = shop.while_waits_end(function, shop.order("a")).await;
        assert!(unknown(&repeat), "{function}: {}", repeat.text);
        shop.standby.resume().await.unwrap();
        let again = until("the standby has it", async || {
            let again = shop.order("a").await;
            if unknown(&again) { Err(again.text) } else { Ok(again) }
        })
        .await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_only_the_primary_has_is_not_reported_as_success() {
    let shop = ReplicatedShop::open().await;
    shop.standby.pause().await.unwrap();
    let product = format!("/products/{}", shop.product);
    let lamp = json!({ "name": "Lamp", "price": 1, "stock": 1 });
    let (dearer, more): (Value, Value) =
        (json!({ "price": 2 }), json!({ "delta": 1, "reason": "found" }));
    let stock = format!("{product}/stock");
    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        let api = &shop.server.api;
        let made = shop.while_waits_end(function, api.post("/products", &lamp)).await;
        assert!(unknown(&made), "{function}: {}", made.text);
        let changed = shop.while_waits_end(function, api.put(&product, &dearer)).await;
        assert!(unknown(&changed), "{function}: {}", changed.text);
        let adjusted = shop.while_waits_end(function, api.post(&stock, &more)).await;
        assert!(unknown(&adjusted), "{function}: {}", adjusted.text);
    }
}
