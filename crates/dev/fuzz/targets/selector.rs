//! The label selector of a request for an external metric.

#![no_main]

use std::collections::BTreeMap;

use holdfast_operator::selector::Selector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = Selector::parse(text) {
        let labels = BTreeMap::from([("release".to_owned(), "holdfast".to_owned())]);
        let _ = selector.matches(&labels);
    }
});
