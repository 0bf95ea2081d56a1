//! A token, its claims, and the keys of an issuer, all of which are untrusted.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holdfast_api::detached::read_token(bytes));
