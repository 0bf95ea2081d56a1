//! The bodies that create and change products.

#![no_main]

use std::time::Duration;

use holdfast_api::{
    access::Caller,
    limits::OrderLimits,
    request::{self, Reading},
    routes::products::{NewProduct, ProductPatch, StockAdjustment},
};
use libfuzzer_sys::fuzz_target;

const LIMITS: OrderLimits =
    OrderLimits { quantity: 1_000, lines: 50, hold: Duration::from_hours(24) };

fuzz_target!(|body: &[u8]| {
    let caller = Caller::anybody();
    let reading = Reading { limits: &LIMITS, caller: &caller, strict: false };
    let problems = [
        request::read::<NewProduct>(body, &reading, None).err(),
        request::read::<ProductPatch>(body, &reading, None).err(),
        request::read::<StockAdjustment>(body, &reading, None).err(),
    ];
    for problem in problems.into_iter().flatten() {
        assert!(problem.fields().next().is_some());
    }
});
