//! The body of `POST /orders` with its `Idempotency-Key`: an accepted order is within the limits.

#![no_main]

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use holdfast_api::{
    access::Caller,
    limits::OrderLimits,
    problem::ProblemKind,
    request::{KeyedBody, Reading},
    routes::orders::NewOrder,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: OrderLimits =
    OrderLimits { quantity: 1_000, lines: 50, hold: Duration::from_hours(24) };

// If the input contains a zero byte, the key is before it and the body after it.
fuzz_target!(|input: &[u8]| {
    let (key, body) = match input.iter().position(|byte| *byte == 0) {
        Some(at) => (HeaderValue::from_bytes(&input[..at]).ok(), &input[at + 1..]),
        None => (None, input),
    };
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        headers.insert("idempotency-key", key);
    }
    let caller = Caller::anybody();
    let reading = Reading { limits: &LIMITS, caller: &caller, strict: false };
    let order = KeyedBody::<NewOrder>::read(&headers, body, &reading)
        .and_then(|KeyedBody { key, body }| body.of(&caller, key.as_ref()));
    match order {
        Ok(order) => assert!((1..=LIMITS.lines).contains(&order.lines.len())),
        // An id that no product can have is answered like a missing product.
        Err(problem) => {
            assert!(problem.fields().next().is_some() || problem.kind() == ProblemKind::NotFound);
        }
    }
});
