//! The endpoints of both ports: each request gets an answer. There is no database, so requests that need it get 503.

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

// The first line has `public` or `admin`, the method and the target; then follow the headers, an empty line and the
// body.
fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let (head, body) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let mut words = first.splitn(3, ' ');
    let admin = words.next() == Some("admin");
    let mut request = Request::builder()
        .method(words.next().unwrap_or_default())
        .uri(words.next().unwrap_or_default())
        .header("content-type", "application/json")
        .extension(Caller::anybody());
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let (runtime, routers) = api();
    let answer = runtime.block_on(routers[usize::from(admin)].clone().oneshot(request)).unwrap();
    let status = answer.status().as_u16();
    assert!((200..500).contains(&status) || status == 503, "{status}");
});
