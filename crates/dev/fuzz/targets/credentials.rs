//! An API key.

#![no_main]

use holdfast_api::access::api_key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(key) = api_key::read(text) {
        assert!(text.starts_with("hf_") && text.contains(key.id));
    }
});
