//! The body of `POST /holds`.

#![no_main]

use std::time::Duration;

use holdfast_api::{
    access::Caller,
    limits::OrderLimits,
    problem::ProblemKind,
    request::{self, Reading},
    routes::holds::NewHold,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: OrderLimits =
    OrderLimits { quantity: 1_000, lines: 50, hold: Duration::from_hours(24) };

fuzz_target!(|body: &[u8]| {
    let caller = Caller::anybody();
    let reading = Reading { limits: &LIMITS, caller: &caller, strict: false };
    let hold = request::read::<NewHold>(body, &reading, None)
        .and_then(|hold| hold.of(&caller, None, &LIMITS));
    match hold {
        Ok(hold) => assert!((1..=LIMITS.quantity).contains(&hold.quantity.units())),
        // An id that no product can have is answered like a missing product.
        Err(problem) => {
            assert!(problem.fields().next().is_some() || problem.kind() == ProblemKind::NotFound);
        }
    }
});
