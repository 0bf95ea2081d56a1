//! Access control with API keys.

use holdfast_sandbox::Process;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::{ApiAnswer, Client},
    server::{self, Server},
};

const ON: (&str, &str) = ("HOLDFAST_AUTH", "on");
const QUICK: (&str, &str) = ("HOLDFAST_KEY_REFRESH_MS", "100");

/// A server that requires keys, and a client with the first key, which was created on the command line.
pub struct GuardedShop {
    pub server: Server,
    pub admin: Bearer,
}

/// A client with a key or a token.
#[derive(Clone)]
pub struct Bearer {
    pub api: Client,
    pub key: String,
}

impl Bearer {
    pub async fn send(&self, method: Method, path: &str, body: &str) -> ApiAnswer {
        self.with(method, path, &[], body).await
    }

    pub async fn with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> ApiAnswer {
        let bearer = format!("Bearer {}", self.key);
        let mut all =
            vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        all.extend(headers);
        self.api.send(method, path, &all, body.to_owned()).await
    }

    pub async fn get(&self, path: &str) -> ApiAnswer {
        self.send(Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> ApiAnswer {
        self.send(Method::POST, path, &body.to_string()).await
    }

    pub fn on(&self, api: &Client) -> Self {
        Self { api: api.clone(), key: self.key.clone() }
    }
}

/// Runs `holdfast-api keys …`.
pub fn keys(database_url: &str, arguments: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(server::BINARY)
        .arg("keys")
        .args(arguments)
        .env("DATABASE_URL", database_url)
        .output()
        .unwrap();
    let mut text = output.stdout;
    if !output.status.success() {
        text.extend(output.stderr);
    }
    (output.status.success(), String::from_utf8(text).unwrap().trim().to_owned())
}

impl GuardedShop {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> = [ON, QUICK].iter().chain(settings).copied().collect();
        let server = Server::with(&settings).await;
        let (made, key) =
            keys(&server.database_url, &["create", "--name", "first", "--scopes", "admin"]);
        assert!(made, "{key}");
        let admin = Bearer { api: server.admin.clone(), key };
        let guarded = Self { server, admin };
        guarded.known(&guarded.admin).await;
        guarded
    }

    /// Waits until the server knows a key.
    pub async fn known(&self, bearer: &Bearer) {
        let bearer = bearer.on(&self.server.api);
        let known = async || bearer.get("/products/1").await.status != 401;
        self.server.until("the key is known", known).await;
    }

    /// A client with a new key.
    pub async fn bearer(&self, body: Value) -> Bearer {
        let made = self.admin.post("/api-keys", &body).await;
        assert_eq!((made.status, made.header("cache-control")), (201, "no-store"), "{}", made.text);
        let key = made.json()["key"].as_str().unwrap().to_owned();
        let bearer = Bearer { api: self.server.api.clone(), key };
        self.known(&bearer).await;
        bearer
    }

    pub async fn scoped(&self, scopes: &[&str]) -> Bearer {
        self.bearer(json!({ "name": "test", "scopes": scopes })).await
    }

    async fn product(&self, stock: i64) -> i64 {
        let body = json!({ "name": "Espresso machine", "price": 499.9, "stock": stock });
        let answer = self.admin.on(&self.server.api).post("/products", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_i64().unwrap()
    }
}

fn without_id(answer: &ApiAnswer) -> (u16, String, Value) {
    let mut problem = answer.problem();
    problem["request_id"] = Value::Null;
    (answer.status, answer.header("www-authenticate").to_owned(), problem)
}

#[tokio::test]
async fn a_refused_caller_learns_nothing_more() {
    let shop = GuardedShop::start(&[]).await;
    let good = shop.scoped(&["products:read"]).await;
    let ended = shop.scoped(&["products:read"]).await;
    sqlx::query("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE id = $1")
        .bind(&ended.key[3..15])
        .execute(shop.server.store.pool())
        .await
        .unwrap();
    shop.server.until("it is over", async || ended.get("/products").await.status == 401).await;

    let last = if good.key.ends_with('A') { "B" } else { "A" };
    let other_secret = format!("{}{last}", &good.key[..good.key.len() - 1]);
    let other_id = format!("hf_aaaaaaaaaaaa{}", &good.key[15..]);
    let nobody = without_id(&shop.server.api.get("/products").await);
    assert_eq!((nobody.0, nobody.1.as_str()), (401, "Bearer realm=\"holdfast\""));
    for key in [other_secret.as_str(), &other_id, &ended.key, "hf_", "x", "a.b.c", ""] {
        let bearer = Bearer { api: shop.server.api.clone(), key: key.to_owned() };
        assert_eq!(without_id(&bearer.get("/products").await), nobody, "{key}");
        // The answer does not depend on whether the object exists.
        assert_eq!(without_id(&bearer.get("/orders/4711").await), nobody, "{key}");
    }
    let twice = [("authorization", "Bearer x"), ("authorization", "Bearer y")];
    let answer = shop.server.api.send(Method::GET, "/products", &twice, "").await;
    assert_eq!(without_id(&answer), nobody);

    // These say nothing about the shop, so they are open.
    for path in ["/livez", "/readyz", "/openapi.json", "/docs/", "/problems/unauthorized"] {
        assert_eq!(shop.server.api.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn each_scope_allows_what_it_says() {
    let shop = GuardedShop::start(&[]).await;
    let id = shop.product(100).await;
    let order = json!({ "product_id": id, "quantity": 1 }).to_string();
    let stock = json!({ "delta": 1, "reason": "found" }).to_string();
    let product = json!({ "name": "Mill", "price": 1, "stock": 1 }).to_string();
    let requests = [
        ("products:read", Method::GET, format!("/products/{id}"), ""),
        ("products:read", Method::GET, "/products".to_owned(), ""),
        ("products:read", Method::GET, format!("/products/{id}/stock-ledger"), ""),
        ("products:write", Method::POST, "/products".to_owned(), product.as_str()),
        ("products:write", Method::POST, format!("/products/{id}/stock"), stock.as_str()),
        ("products:write", Method::DELETE, "/products/4711".to_owned(), ""),
        ("orders:read", Method::GET, "/orders".to_owned(), ""),
        ("orders:read", Method::GET, "/orders/4711".to_owned(), ""),
        ("orders:read", Method::GET, "/holds".to_owned(), ""),
        ("orders:write", Method::POST, "/orders".to_owned(), order.as_str()),
        ("orders:write", Method::POST, "/orders/4711/cancel".to_owned(), ""),
        ("orders:write", Method::POST, "/holds".to_owned(), order.as_str()),
        ("orders:write", Method::DELETE, "/holds/4711".to_owned(), ""),
    ];
    for scope in ["products:read", "products:write", "orders:read", "orders:write", "admin"] {
        let bearer = shop.scoped(&[scope]).await;
        for (needed, method, path, body) in &requests {
            let answer = bearer.send(method.clone(), path, body).await;
            let allowed = scope == "admin" || scope == *needed;
            assert_eq!(answer.status != 403, allowed, "{scope}: {method} {path}: {}", answer.text);
            assert_ne!(answer.status, 401, "{scope}: {method} {path}");
            if !allowed {
                assert!(answer.problem()["detail"].as_str().unwrap().contains(needed));
            }
        }
        let administers = bearer.on(&shop.server.admin).get("/api-keys").await.status;
        assert_eq!(administers, if scope == "admin" { 200 } else { 403 }, "{scope}");
    }
}

#[tokio::test]
async fn administration_is_on_its_own_port_only() {
    let shop = GuardedShop::start(&[]).await;
    let admin = shop.admin.on(&shop.server.api);
    for path in ["/api-keys", "/dead-letters", "/metrics"] {
        assert_eq!(admin.get(path).await.status, 404, "{path}");
    }
    // Routes that only read are on both ports.
    assert_eq!(shop.admin.get("/orders").await.status, 200);
    assert_eq!(shop.admin.post("/orders", &json!({})).await.status, 405);
    assert_eq!(shop.admin.get("/dead-letters").await.status, 200);
    assert_eq!(shop.server.admin.get("/dead-letters").await.status, 401);
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_all_replicas() {
    let shop = GuardedShop::start(&[]).await;
    let second: Process =
        server::spawn(&shop.server.database_url, &shop.server.redis.url(), &[ON, QUICK]).await;
    let [address, ..] = server::addresses(&second).await;
    let bearer = shop.scoped(&["products:read"]).await;
    let elsewhere = bearer.on(&Client::new(&address));
    for bearer in [&bearer, &elsewhere] {
        shop.server.until("it is good", async || bearer.get("/products").await.status == 200).await;
    }
    let id = &bearer.key[3..15];
    let listed = shop.admin.get("/api-keys?limit=1").await;
    assert_eq!(listed.json()[0]["id"], id);
    assert!(!listed.text.contains(&bearer.key[16..]), "a secret is in {}", listed.text);
    assert!(listed.header("link").contains("rel=\"next\""));

    let revoked = shop.admin.send(Method::DELETE, &format!("/api-keys/{id}"), "").await;
    assert_eq!(revoked.status, 200);
    let at = revoked.json()["revoked_at"].clone();
    for bearer in [&bearer, &elsewhere] {
        shop.server.until("it is over", async || bearer.get("/products").await.status == 401).await;
    }
    // A second revocation changes nothing, and an unknown key is 404.
    let (again, line) = keys(&shop.server.database_url, &["revoke", id]);
    assert!(again, "{line}");
    let listed = shop.admin.get("/api-keys").await.json();
    let found = listed.as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    assert_eq!(found["revoked_at"], at);
    assert_eq!(shop.admin.send(Method::DELETE, "/api-keys/x%00y", "").await.status, 404);
    let (revoked, line) = keys(&shop.server.database_url, &["revoke", "x"]);
    assert!(!revoked && line.contains("the key does not exist"), "{line}");
}

#[tokio::test]
async fn keys_stay_valid_while_the_database_is_not_available() {
    let shop = GuardedShop::start(&[]).await;
    let id = shop.product(5).await;
    let bearer = shop.scoped(&["products:read"]).await;
    assert_eq!(bearer.get(&format!("/products/{id}")).await.status, 200);
    sqlx::query("ALTER TABLE api_keys RENAME TO elsewhere")
        .execute(shop.server.store.pool())
        .await
        .unwrap();
    let failing = || shop.server.process.log().unwrap().contains("the API keys cannot be read");
    shop.server.until("it is noticed", async || failing()).await;
    assert_eq!(bearer.get(&format!("/products/{id}")).await.status, 200);
    assert_eq!(shop.server.api.get(&format!("/products/{id}")).await.status, 401);
}

#[tokio::test]
async fn a_key_for_one_customer_has_access_only_to_its_own_data() {
    let shop = GuardedShop::start(&[]).await;
    let id = shop.product(100).await;
    let scopes = ["products:read", "products:write", "orders:read", "orders:write"];
    let mut bearers = Vec::new();
    for customer in ["ada", "bob"] {
        let body = json!({ "name": customer, "scopes": scopes, "customer_ref": customer });
        bearers.push(shop.bearer(body).await);
    }
    let (ada, bob) = (&bearers[0], &bearers[1]);
    let order = json!({ "product_id": id, "quantity": 1 });

    // A caller that is bound to a customer orders for that customer, whether the customer is named or not, and cannot
    // order for another.
    let of_ada = ada.post("/orders", &order).await.json();
    assert_eq!(of_ada["customer_ref"], "ada");
    let named = json!({ "product_id": id, "quantity": 1, "customer_ref": "bob" });
    assert_eq!(ada.post("/orders", &named).await.wrong_fields(), ["customer_ref"]);
    assert_eq!(bob.post("/orders", &named).await.status, 201);
    let of_shop = shop.admin.on(&shop.server.api).post("/orders", &order).await.json();

    let list = |answer: ApiAnswer| -> Vec<Value> {
        answer.json().as_array().unwrap().iter().map(|order| order["id"].clone()).collect()
    };
    assert_eq!(list(ada.get("/orders").await), [of_ada["id"].clone()]);
    assert_eq!(list(ada.get("/orders?customer_ref=ada").await), [of_ada["id"].clone()]);
    assert_eq!(ada.get("/orders?customer_ref=bob").await.wrong_fields(), ["customer_ref"]);
    let path = |order: &Value| format!("/orders/{}", order["id"]);
    assert_eq!(ada.get(&path(&of_ada)).await.status, 200);
    // An object of another customer is answered like one that does not exist.
    let missing = bob.get("/orders/999999").await.problem()["type"].clone();
    for order in [&of_ada, &of_shop] {
        let answer = bob.get(&path(order)).await;
        assert_eq!((answer.status, &answer.problem()["type"]), (404, &missing));
        let cancelled = bob.post(&format!("{}/cancel", path(order)), &json!({})).await;
        assert_eq!(cancelled.status, 404);
    }
    assert_eq!(ada.post(&format!("{}/cancel", path(&of_ada)), &json!({})).await.status, 200);

    // The same for holds.
    let hold = ada.post("/holds", &order).await.json();
    assert_eq!(hold["customer_ref"], "ada");
    let hold_path = format!("/holds/{}", hold["id"]);
    assert_eq!(list(bob.get("/holds").await), Vec::<Value>::new());
    assert_eq!(bob.get(&hold_path).await.status, 404);
    assert_eq!(bob.send(Method::DELETE, &hold_path, "").await.status, 404);
    let from_hold = json!({ "product_id": id, "quantity": 1, "hold_id": hold["id"] });
    assert_eq!(bob.post("/orders", &from_hold).await.status, 404);
    assert_eq!(ada.post("/orders", &from_hold).await.status, 201);

    // Whatever its scopes, such a key cannot change the shop.
    assert_eq!(ada.post(&format!("/products/{id}/stock"), &json!({})).await.status, 403);
    assert_eq!(ada.get(&format!("/products/{id}/stock-ledger")).await.status, 403);
    assert_eq!(ada.get("/products").await.status, 200);
}

#[tokio::test]
async fn callers_do_not_share_their_idempotency_keys() {
    let shop = GuardedShop::start(&[]).await;
    let id = shop.product(100).await;
    let (one, other) = (shop.scoped(&["orders:write"]).await, shop.scoped(&["orders:write"]).await);
    let order = json!({ "product_id": id, "quantity": 1 }).to_string();
    let place = async |bearer: &Bearer| {
        let key = [("idempotency-key", "order-1")];
        let answer = bearer.with(Method::POST, "/orders", &key, &order).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].clone()
    };
    let first = place(&one).await;
    assert_eq!(place(&one).await, first);
    assert_ne!(place(&other).await, first);
}

#[tokio::test]
async fn a_key_over_its_rate_limit_gets_429_and_others_are_not_affected() {
    let shop = GuardedShop::start(&[]).await;
    let body = json!({ "name": "slow", "scopes": ["products:read"], "rate_per_second": 5 });
    let (slow, other) = (shop.bearer(body).await, shop.scoped(&["products:read"]).await);
    let ask = async || {
        let answer = slow.get("/products/4711").await;
        assert!(answer.header("ratelimit-policy").contains("q=5;w=1"), "{answer:?}");
        (answer.status == 429).then_some(answer)
    };
    let refused = shop.server.until("it is refused", ask).await;
    assert_eq!(
        (refused.header("retry-after"), refused.header("ratelimit")),
        ("1", "\"second\";r=0;t=1")
    );
    refused.problem();
    let answer = other.get("/products/4711").await;
    assert_eq!((answer.status, answer.header("ratelimit")), (404, ""));
    shop.server
        .until("the next second", async || slow.get("/products/4711").await.status == 404)
        .await;
}

#[tokio::test]
async fn keys_without_a_limit_get_the_servers_limit() {
    let shop = GuardedShop::start(&[("HOLDFAST_RATE_LIMIT", "3")]).await;
    let bearer = shop.scoped(&["products:read"]).await;
    shop.server
        .until("it is refused", async || bearer.get("/products/4711").await.status == 429)
        .await;
}

#[tokio::test]
async fn invalid_requests_for_keys_are_refused() {
    let shop = GuardedShop::start(&[]).await;
    let answer =
        shop.admin.post("/api-keys", &json!({ "scopes": ["root"], "rate_per_second": 0 })).await;
    assert_eq!(answer.wrong_fields(), ["name", "rate_per_second", "scopes"]);
    let url = &shop.server.database_url;
    for (arguments, says) in [
        (&["create", "--name", "x", "--scopes", "root"][..], "--scopes"),
        (&["create", "--name", "", "--scopes", "admin"], "--name"),
        (&["create", "--name", "x", "--scopes", "admin", "--rate", "0"], "--rate"),
        (
            &["create", "--name", "x", "--scopes", "admin", "--expires", "1999-01-01T00:00:00Z"],
            "--expires",
        ),
    ] {
        let (made, text) = keys(url, arguments);
        assert!(!made && text.contains(says), "{arguments:?}: {text}");
    }
    let (listed, lines) = keys(url, &["list"]);
    assert!(
        listed && lines.lines().count() == 2 && !lines.contains(&shop.admin.key[16..]),
        "{lines}"
    );
}
