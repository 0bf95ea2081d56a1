//! What web pages can do with the API.

use reqwest::Method;

use crate::{access::GuardedShop, server::Server};

#[tokio::test]
async fn pages_of_the_named_origins_may_call_and_no_others() {
    let shop = GuardedShop::start(&[(
        "HOLDFAST_CORS_ORIGINS",
        "https://shop.example,http://localhost:3000",
    )])
    .await;
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,idempotency-key"),
        ];
        shop.server.api.send(Method::OPTIONS, "/orders", &headers, "").await
    };
    for origin in ["https://shop.example", "http://localhost:3000"] {
        let answer = preflight(origin).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, origin));
        assert!(answer.header("access-control-allow-headers").contains("idempotency-key"));
        let answer = shop.server.api.send(Method::GET, "/livez", &[("origin", origin)], "").await;
        assert_eq!(answer.header("access-control-allow-origin"), origin);
    }
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), "");

    let closed = Server::start().await;
    let answer =
        closed.api.send(Method::GET, "/livez", &[("origin", "https://shop.example")], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let log = closed.process.log().unwrap();
    assert!(log.contains("HOLDFAST_AUTH is off"), "{log}");
}

#[tokio::test]
async fn a_browser_can_only_display_an_answer() {
    let server = Server::start().await;
    for path in ["/livez", "/products", "/products/1", "/nowhere", "/orders/x"] {
        let answer = server.api.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'", "{path}");
    }
    let page = server.api.get("/docs/").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'self';"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("script-src"), "{policy}");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
}
