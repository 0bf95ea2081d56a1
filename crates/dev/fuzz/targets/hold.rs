//! The body of `POST /holds`.

#![no_main]

use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use holdfast_api::{access::Caller, new_order, problem::Kind};
use libfuzzer_sys::fuzz_target;

const LIMITS: new_order::OrderLimits =
    new_order::OrderLimits { quantity: 1_000, lines: 50, hold: Duration::from_secs(86_400) };

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    match new_order::hold(&HeaderMap::new(), &body, &LIMITS, &Caller::anybody()) {
        Ok(hold) => assert!((1..=LIMITS.quantity).contains(&hold.quantity.units())),
        // An id that no product can have is one that is not there.
        Err(problem) => {
            assert!(problem.fields().next().is_some() || problem.kind() == Kind::NotFound);
        }
    }
});
