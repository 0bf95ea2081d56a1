//! Untrusted JSON: accepted text is valid JSON, and any JSON parser can read it safely.

#![no_main]

use holdfast_domain::{Metadata, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let checked = json::check(text);
    // A type for any JSON, which is parsed as deeply as the text is nested.
    let read = json::from_str::<serde_json::Value>(text);
    if checked.is_err() {
        assert!(read.is_err());
    }
    if let Ok(metadata) = Metadata::new(text.to_owned()) {
        assert_eq!(metadata.as_str(), text);
        assert!(checked.is_ok());
    }
});
