//! The `Retry-After` header of a webhook receiver.

#![no_main]

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderValue, header};
use holdfast_worker::webhook::retry_after;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value)]);
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let _ = retry_after(&headers, now);
});
