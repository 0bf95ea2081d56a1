//! The URL of Redis: one server, Sentinels, or a cluster. Its readable form contains no password.

#![no_main]

use holdfast_redis::{RedisServers, RedisUrl};
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "hunter2";

fuzz_target!(|text: &str| {
    let said = match text.parse::<RedisUrl>() {
        Ok(url) => {
            let _ = RedisServers::new(text, None, "orders");
            format!("{url:?} {}", url.tls())
        }
        Err(refusal) => refusal.to_string(),
    };
    assert!(!said.contains(PASSWORD));
});
