//! The bodies of the admin port: keys, dead letters and sales.

#![no_main]

use std::time::Duration;

use holdfast_api::{
    access::Caller,
    limits::OrderLimits,
    request::{self, Reading},
    routes::{
        api_keys::NewApiKey,
        dead_letters::{Discard, OperatorRequest, ReplayMany},
        sales::NewSale,
    },
};
use libfuzzer_sys::fuzz_target;

const LIMITS: OrderLimits =
    OrderLimits { quantity: 1_000, lines: 50, hold: Duration::from_hours(24) };

fuzz_target!(|body: &[u8]| {
    let caller = Caller::anybody();
    let reading = Reading { limits: &LIMITS, caller: &caller, strict: false };
    let problems = [
        request::read::<NewApiKey>(body, &reading, None).err(),
        request::read::<OperatorRequest>(body, &reading, None).err(),
        request::read::<Discard>(body, &reading, None).err(),
        request::read::<ReplayMany>(body, &reading, None).err(),
        request::read::<NewSale>(body, &reading, None).err(),
    ];
    for problem in problems.into_iter().flatten() {
        assert!(problem.fields().next().is_some());
    }
});
