//! Conditional headers and trace headers.

#![no_main]

use axum::http::{HeaderMap, HeaderValue, header};
use holdfast_api::etag;
use holdfast_telemetry::propagation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    if let Ok(text) = value.to_str() {
        let context = propagation::extract(text);
        // A header that is passed on is read in the same way again.
        if let Some(again) = propagation::traceparent(&context) {
            let reread = propagation::traceparent(&propagation::extract(&again));
            assert_eq!(reread.as_deref(), Some(again.as_str()));
        }
    }
    let headers =
        HeaderMap::from_iter([(header::IF_MATCH, value.clone()), (header::IF_NONE_MATCH, value)]);
    let tag = etag::ProductTag::new(42, b"{}");
    if let Ok(conditions) = etag::Preconditions::read(&headers) {
        let _ = conditions.holds_for(&tag);
    }
    let _ = etag::IfNoneMatch(headers).is_known(&tag);
});
