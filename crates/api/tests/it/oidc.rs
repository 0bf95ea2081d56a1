//! Tokens of an OIDC issuer. The issuer is a small server in this module, with real documents and signatures.

use std::{
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use crate::{access::Bearer, client::ApiAnswer, server::Server};

/// Signs tokens, and publishes its keys.
struct TestIssuer {
    url: String,
    keys: Arc<Mutex<Value>>,
}

enum TestKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl TestKey {
    fn p256() -> Self {
        let (random, scheme) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(scheme, document.as_ref(), &random).unwrap())
    }

    fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// In the published form.
    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::P256(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
                    "x": URL_SAFE_NO_PAD.encode(&point[..32]), "y": URL_SAFE_NO_PAD.encode(&point[32..]) })
            }
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig",
                    "x": URL_SAFE_NO_PAD.encode(pair.public_key()) })
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        self.token_with(json!({ "kid": id, "typ": "JWT" }), claims)
    }

    fn token_with(&self, mut header: Value, claims: &Value) -> String {
        header["alg"] = json!(self.algorithm());
        let message = unsigned(&header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

impl TestIssuer {
    async fn start(keys: &[Value]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        let keys = Arc::new(Mutex::new(json!({ "keys": keys })));
        let shown = Arc::clone(&keys);
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(discovery)))
            .route("/keys", get(async move || Json(shown.lock().unwrap().clone())));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, keys }
    }

    fn publish(&self, keys: &[Value]) {
        self.answer(json!({ "keys": keys }));
    }

    /// Replaces the published keys.
    fn answer(&self, document: Value) {
        *self.keys.lock().unwrap() = document;
    }

    /// The claims of a valid token, with changes; `null` removes a claim.
    fn claims(&self, changes: &Value) -> Value {
        let now =
            i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let mut claims = json!({ "iss": self.url, "aud": "holdfast", "sub": "ada", "exp": now + 300, "nbf": now - 5,
            "scope": "openid orders:read orders:write products:read products:write" });
        for (name, value) in changes.as_object().unwrap() {
            let value = match value.as_i64() {
                // Times are relative to now.
                Some(seconds) if ["exp", "nbf"].contains(&name.as_str()) => json!(now + seconds),
                _ => value.clone(),
            };
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value;
            }
        }
        claims
    }

    async fn server(&self, settings: &[(&str, &str)]) -> Server {
        let mut all = vec![
            ("HOLDFAST_AUTH", "on"),
            ("HOLDFAST_OIDC_ISSUER", self.url.as_str()),
            ("HOLDFAST_OIDC_AUDIENCE", "holdfast"),
        ];
        all.extend(settings);
        Server::with(&all).await
    }
}

async fn ask(server: &Server, token: &str) -> ApiAnswer {
    let bearer = Bearer { api: server.api.clone(), key: token.to_owned() };
    bearer.get("/orders").await
}

#[tokio::test]
async fn only_tokens_of_the_issuer_are_valid() {
    let (key, stranger) = (TestKey::p256(), TestKey::p256());
    let issuer = TestIssuer::start(&[key.jwk("one")]).await;
    let server = issuer.server(&[]).await;
    let good = key.token("one", &issuer.claims(&json!({})));
    server.until("the keys are known", async || ask(&server, &good).await.status == 200).await;
    let typed = json!({ "kid": "one", "typ": "at+jwt" });
    let typed = key.token_with(typed, &issuer.claims(&json!({})));
    assert_eq!(ask(&server, &typed).await.status, 200);
    // Several audiences, and scopes in the form of other issuers.
    let many = issuer
        .claims(&json!({ "aud": ["shop", "holdfast"], "scope": null, "scp": ["orders:read"] }));
    assert_eq!(ask(&server, &key.token("one", &many)).await.status, 200);

    for changes in [
        json!({ "iss": "http://127.0.0.1:1" }),
        json!({ "iss": null }),
        json!({ "aud": "another" }),
        json!({ "aud": null }),
        json!({ "exp": -3600 }),
        json!({ "exp": null }),
        json!({ "nbf": 3600 }),
        json!({ "sub": null }),
    ] {
        let token = key.token("one", &issuer.claims(&changes));
        assert_eq!(ask(&server, &token).await.status, 401, "{changes}");
    }
    let claims = issuer.claims(&json!({}));
    let public = URL_SAFE_NO_PAD.encode(key.jwk("one").to_string());
    let forged = [
        // Signed by another issuer; with a key that does not exist; with the name of another key.
        stranger.token("one", &claims),
        key.token("two", &claims),
        // Not signed.
        format!("{}.", unsigned(&json!({ "alg": "none", "kid": "one" }), &claims)),
        // With the public key as the shared secret.
        format!("{}.{public}", unsigned(&json!({ "alg": "HS256", "kid": "one" }), &claims)),
        // With an algorithm that is not allowed.
        format!("{}.{public}", unsigned(&json!({ "alg": "ES384", "kid": "one" }), &claims)),
        // Changed after it was signed.
        format!("{good}x"),
        good.replacen('.', ".e", 1),
        "a.b.c".to_owned(),
        "x".repeat(9000),
        // Correctly signed, with an unknown extension.
        key.token_with(json!({ "kid": "one", "crit": ["exp"] }), &claims),
        key.token_with(json!({ "kid": "one", "b64": true }), &claims),
        key.token_with(json!({ "kid": "one", "typ": "logout+jwt" }), &claims),
        key.token_with(json!({}), &claims),
    ];
    for token in forged {
        let answer = ask(&server, &token).await;
        assert_eq!(answer.status, 401, "{token}");
        assert_eq!(answer.problem()["type"], "/problems/unauthorized");
    }
    // Valid, but without the scope.
    let poor = key.token("one", &issuer.claims(&json!({ "scope": "openid products:read" })));
    assert_eq!(ask(&server, &poor).await.status, 403);
    let log = server.process.log().unwrap();
    for secret in [good.rsplit('.').next().unwrap(), poor.rsplit('.').next().unwrap()] {
        assert!(!log.contains(secret), "a token is in the log");
    }
}

#[tokio::test]
async fn rotated_keys_are_picked_up_automatically() {
    let (old, new) = (TestKey::p256(), TestKey::ed25519());
    let issuer = TestIssuer::start(&[old.jwk("old")]).await;
    let server = issuer.server(&[("HOLDFAST_OIDC_ALGORITHMS", "ES256,EdDSA")]).await;
    let of_old = old.token("old", &issuer.claims(&json!({})));
    server.until("the keys are known", async || ask(&server, &of_old).await.status == 200).await;
    // The new key replaces the old one. A token with the new key makes the server read the keys again. Then tokens of
    // the old key are no longer valid.
    issuer.publish(&[new.jwk("new")]);
    let of_new = new.token("new", &issuer.claims(&json!({})));
    server.until("the new key is known", async || ask(&server, &of_new).await.status == 200).await;
    assert_eq!(ask(&server, &of_old).await.status, 401);
}

#[tokio::test]
async fn a_new_key_with_the_id_of_another_invalidates_its_tokens() {
    let (old, new) = (TestKey::p256(), TestKey::p256());
    let issuer = TestIssuer::start(&[old.jwk("one")]).await;
    let server = issuer.server(&[]).await;
    let of_old = old.token("one", &issuer.claims(&json!({})));
    server.until("the keys are known", async || ask(&server, &of_old).await.status == 200).await;
    issuer.publish(&[new.jwk("one")]);
    let of_new = new.token("one", &issuer.claims(&json!({})));
    server.until("the new key is known", async || ask(&server, &of_new).await.status == 200).await;
    // It was valid before, and is in the cache.
    assert_eq!(ask(&server, &of_old).await.status, 401);
}

#[tokio::test]
async fn an_empty_or_broken_key_set_locks_no_caller_out() {
    let (key, stranger) = (TestKey::p256(), TestKey::p256());
    let issuer = TestIssuer::start(&[key.jwk("one")]).await;
    let server = issuer.server(&[]).await;
    let good = key.token("one", &issuer.claims(&json!({})));
    server.until("the keys are known", async || ask(&server, &good).await.status == 200).await;
    let failures =
        || server.process.log().unwrap().matches("the issuer's keys cannot be read").count();
    for (known, broken) in [json!({ "keys": [] }), json!("<html>")].into_iter().enumerate() {
        issuer.answer(broken.clone());
        // A token with an unknown key makes the server read the keys.
        let unknown = stranger.token("two", &issuer.claims(&json!({})));
        server
            .until("it has asked", async || {
                assert_eq!(ask(&server, &unknown).await.status, 401);
                failures() > known
            })
            .await;
        assert_eq!(ask(&server, &good).await.status, 200, "{broken}: remembered");
        let fresh = key.token("one", &issuer.claims(&json!({ "sub": "bob" })));
        assert_eq!(ask(&server, &fresh).await.status, 200, "{broken}: judged anew");
    }
}

#[tokio::test]
async fn an_unavailable_issuer_causes_503_and_api_keys_still_work() {
    let key = TestKey::p256();
    let issuer = TestIssuer::start(&[]).await;
    let server = Server::with(&[
        ("HOLDFAST_AUTH", "on"),
        ("HOLDFAST_OIDC_ISSUER", "http://127.0.0.1:1"),
        ("HOLDFAST_OIDC_AUDIENCE", "holdfast"),
    ])
    .await;
    let answer = ask(&server, &key.token("one", &issuer.claims(&json!({})))).await;
    assert_eq!(
        (answer.status, answer.problem()["type"].as_str().unwrap()),
        (503, "/problems/unavailable")
    );
    assert!(server.process.log().unwrap().contains("the issuer's keys cannot be read"));
    assert_eq!(server.api.get("/orders").await.status, 401);
}

#[tokio::test]
async fn a_token_for_one_customer_shows_only_its_own_orders() {
    let key = TestKey::p256();
    let issuer = TestIssuer::start(&[key.jwk("one")]).await;
    let server = issuer.server(&[("HOLDFAST_OIDC_CUSTOMER_CLAIM", "customer")]).await;
    let bearer = |customer: Value| {
        let token = key.token("one", &issuer.claims(&json!({ "customer": customer })));
        Bearer { api: server.api.clone(), key: token }
    };
    let (ada, bob) = (bearer(json!("ada")), bearer(json!("bob")));
    server.until("the keys are known", async || ada.get("/orders").await.status == 200).await;
    let (made, text) = crate::access::keys(
        &server.database_url,
        &["create", "--name", "shop", "--scopes", "products:write,orders:read"],
    );
    assert!(made, "{text}");
    let shop = Bearer { api: server.api.clone(), key: text };
    server.until("the key is known", async || shop.get("/orders").await.status == 200).await;
    let product = json!({ "name": "Mill", "price": 1, "stock": 9 });
    let id = shop.post("/products", &product).await.json()["id"].clone();

    let order = ada.post("/orders", &json!({ "product_id": id, "quantity": 1 })).await;
    assert_eq!((order.status, &order.json()["customer_ref"]), (201, &json!("ada")));
    let path = format!("/orders/{}", order.json()["id"]);
    assert_eq!(ada.get(&path).await.status, 200);
    assert_eq!(bob.get(&path).await.status, 404);
    assert_eq!(bob.get("/orders").await.json(), json!([]));
    assert_eq!(shop.get(&path).await.status, 200);
    // A token without a customer would have access to all customers.
    for nobody in [Value::Null, json!(""), json!(7)] {
        assert_eq!(bearer(nobody).get("/orders").await.status, 401);
    }
}

/// Tokens, claims and documents of an issuer are parsed before they are trusted.
#[tokio::test]
async fn no_token_or_document_crashes_the_process() {
    let key = TestKey::p256();
    let issuer = TestIssuer::start(&[key.jwk("one")]).await;
    let server = issuer.server(&[]).await;
    let good = key.token("one", &issuer.claims(&json!({})));
    server.until("the keys are known", async || ask(&server, &good).await.status == 200).await;

    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let claims = part(issuer.claims(&json!({})).to_string());
    for bytes in [1_000, 3_000, 5_500] {
        let bomb = crate::stored_json::bomb(bytes);
        for header in [
            bomb.clone(),
            format!(r#"{{"alg":"ES256","kid":"one","x":{bomb}}}"#),
            format!(r#"{{"alg":"ES256","kid":"one","jwk":{bomb}}}"#),
            format!(r#"{{"alg":"ES256","kid":"one","jwk":{{"kty":"EC","x":{bomb}}}}}"#),
        ] {
            let token = format!("{}.{claims}.AAAA", part(header));
            assert_eq!(ask(&server, &token).await.status, 401);
        }
        let claims =
            issuer.claims(&json!({})).to_string().replacen('{', &format!("{{\"x\":{bomb},"), 1);
        let message =
            format!("{}.{}", part(r#"{"alg":"ES256","kid":"one"}"#.to_owned()), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
        assert_eq!(ask(&server, &format!("{message}.{signature}")).await.status, 401);
    }
    assert_eq!(ask(&server, &good).await.status, 200);
    assert!(server.process.status().is_none());
}
