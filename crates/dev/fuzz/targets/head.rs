//! The first bytes of a connection: where the head of a request ends, and its body.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holdfast_api::detached::read_request(bytes));
