//! The first bytes of a connection: the end of the request's head, and its body.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holdfast_api::detached::read_request(bytes));
