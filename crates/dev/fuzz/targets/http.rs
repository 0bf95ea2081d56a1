//! The endpoints of both ports: each request gets an answer. There is no database, which is answered with 503.

#![no_main]

use std::sync::OnceLock;

use axum::{Router, body::Body, http::Request};
use holdfast_api::{access::Caller, detached, endpoint::Surface};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

static API: OnceLock<(Runtime, [Router; 2])> = OnceLock::new();

fn api() -> &'static (Runtime, [Router; 2]) {
    API.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let routers = runtime.block_on(async {
            [Surface::Public, Surface::Admin].map(|surface| detached::router(surface).unwrap())
        });
        (runtime, routers)
    })
}

fuzz_target!(|input: (bool, String, String, Vec<(String, Vec<u8>)>, Vec<u8>)| {
    let (admin, method, uri, headers, body) = input;
    let mut request = Request::builder()
        .method(method.as_str())
        .uri(uri)
        .header("content-type", "application/json")
        .extension(Caller::anybody());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Body::from(body)) else { return };
    let (runtime, routers) = api();
    let answer = runtime.block_on(routers[usize::from(admin)].clone().oneshot(request)).unwrap();
    let status = answer.status().as_u16();
    assert!((200..500).contains(&status) || status == 503, "{status}");
});
