//! The bodies of the admin port: keys, dead letters and sales.

#![no_main]

use bytes::Bytes;
use holdfast_api::{api_keys, dead_letters, sales};
use holdfast_domain::SaleName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    let problems = [
        api_keys::read(&body).err(),
        dead_letters::ordered_by(&body).err(),
        dead_letters::replay_many(&body).err(),
        SaleName::new("x".to_owned()).ok().and_then(|name| sales::read(name, &body).err()),
    ];
    for problem in problems.into_iter().flatten() {
        assert!(problem.fields().next().is_some());
    }
});
