//! The API without PostgreSQL and Redis, for tests of the code that reads requests.

use std::time::Duration;

use axum::Router;
use holdfast_cache::{Cache, CacheSettings};
use holdfast_queue::QueueSettings;
use holdfast_store::{Store, StoreSettings};

use crate::{access::oidc, app::App, endpoint::Surface, http, router};

/// The endpoints of a port. Requests that need the database get 503. Must be called within a tokio runtime.
///
/// # Errors
/// The settings are invalid, which does not depend on the environment.
pub fn router(surface: Surface) -> anyhow::Result<Router> {
    // No server listens there.
    let mut store = StoreSettings::new("postgres://nobody@127.0.0.1:1/none")?;
    store.acquire_timeout = Duration::from_millis(1);
    let store = Store::connect(&store);
    let cache = Cache::connect(CacheSettings::new("redis://127.0.0.1:1"))?;
    let app = App::in_process(store, cache, QueueSettings::new("redis://127.0.0.1:1"))?;
    Ok(router::router(app, surface))
}

/// Parses untrusted bytes as a token, as claims and as an issuer's keys.
pub fn read_token(bytes: &[u8]) {
    oidc::read_all(bytes);
}

/// Parses bytes as the beginning of a connection: the head of a request and the end of its body.
///
/// # Panics
/// The result depends on how the bytes are split.
pub fn read_request(bytes: &[u8]) {
    http::read_request(bytes);
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Method, Request},
    };
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    use super::*;

    /// JSON and almost valid JSON, with the field names of the endpoints.
    fn body() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "-?[0-9]{1,20}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?",
            r#""[ -~\u200b\ufeffé]{0,12}""#.prop_filter("one text", |text| {
                text.matches('"').count() == 2 && !text.contains('\\')
            }),
            Just(r#""\ud800""#.to_owned()),
            Just(r#""\u0000""#.to_owned()),
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("NaN".to_owned()),
        ];
        let key = prop::sample::select(vec![
            "product_id",
            "quantity",
            "hold_id",
            "items",
            "customer_ref",
            "metadata",
            "expected_price",
            "seconds",
            "name",
            "description",
            "price",
            "stock",
            "stock_change",
            "version",
            "delta",
            "reason",
            "by",
            "note",
            "ids",
            "all",
            "cursor",
            "scopes",
            "starts_at",
            "products",
            "$serde_json::private::RawValue",
            "\\u0024serde_json::private::Number",
        ]);
        leaf.prop_recursive(5, 40, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|all| format!("[{}]", all.join(","))),
                prop::collection::vec((key.clone(), inner), 0..8).prop_map(|all| {
                    let all: Vec<_> =
                        all.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    fn path() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            prop::sample::select(vec![
                "orders",
                "products",
                "holds",
                "sales",
                "api-keys",
                "dead-letters",
                "cancel",
                "stock",
                "stock-ledger",
                "replay",
                "discard",
                "problems",
                "1",
                "0",
                "-1",
                "+1",
            ])
            .prop_map(ToOwned::to_owned),
            "[a-z0-9%.]{1,8}",
        ];
        (
            prop::collection::vec(segment, 1..4),
            "(\\?(limit|cursor|status|name|product_id|skip)=[a-zA-Z0-9%_+-]{0,24})?",
        )
            .prop_map(|(segments, query)| format!("/{}{query}", segments.join("/")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Every request gets an answer: a client error for invalid requests, and 503 otherwise.
        #[test]
        fn every_request_gets_an_answer(
            admin in any::<bool>(),
            method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]),
            path in path(),
            key in "([!-~]{0,20})?",
            body in body(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let status = runtime.block_on(async {
                let router = router(if admin { Surface::Admin } else { Surface::Public }).unwrap();
                let request = Request::builder()
                    .method(Method::from_bytes(method.as_bytes()).unwrap())
                    .uri(&path)
                    .header("content-type", "application/json")
                    .header("idempotency-key", key)
                    .header("if-match", "\"1\"")
                    .extension(crate::access::Caller::anybody());
                let Ok(request) = request.body(Body::from(body)) else { return None };
                let answer = router.oneshot(request).await.unwrap();
                let status = answer.status().as_u16();
                answer.into_body().collect().await.unwrap();
                Some(status)
            });
            let fine = |status| (200..500).contains(&status) || status == 503;
            prop_assert!(status.is_none_or(fine), "{:?}", status);
        }

        #[test]
        fn any_bytes_are_read_as_a_token_without_panic(
            header in body(),
            claims in body(),
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
            read_token(&bytes);
            read_token(claims.as_bytes());
            read_token(format!("{{\"keys\":[{header},{claims}]}}").as_bytes());
            read_token(format!("{}.{}.AAAA", BASE64.encode(header), BASE64.encode(claims)).as_bytes());
        }
    }
}
