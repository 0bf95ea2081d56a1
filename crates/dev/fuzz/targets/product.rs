//! The bodies that make and change products.

#![no_main]

use axum::http::HeaderMap;
use bytes::Bytes;
use holdfast_api::routes::products::{adjust_stock, create, update};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    let headers = HeaderMap::new();
    let problems = [
        create::read(&body).err(),
        update::read(&body).err(),
        adjust_stock::read(&body, &headers).err(),
    ];
    for problem in problems.into_iter().flatten() {
        assert!(problem.fields().next().is_some());
    }
});
