//! The queries of lists with their cursors: an accepted cursor equals one that the server returned.

#![no_main]

use std::time::Duration;

use holdfast_api::{
    access::Caller,
    cursor::{Cursor, CursorScope},
    limits::OrderLimits,
    request::{Query, Reading},
    routes::{dead_letters::ListDeadLetters, orders::ListOrders, products::ListProducts},
};
use libfuzzer_sys::fuzz_target;

const LIMITS: OrderLimits =
    OrderLimits { quantity: 1_000, lines: 50, hold: Duration::from_hours(24) };

fuzz_target!(|text: &str| {
    let caller = Caller::anybody();
    let reading = Reading { limits: &LIMITS, caller: &caller, strict: false };
    let _ = Query::<ListProducts>::read(Some(text), &reading);
    let _ = Query::<ListDeadLetters>::read(Some(text), &reading);
    if let Ok(asked) = Query::<ListOrders>::read(Some(text), &reading) {
        let scope = CursorScope::new("orders");
        if let Ok(Some(place)) = Cursor::position::<(i64, i64)>(asked.cursor, &scope) {
            assert_eq!(scope.position::<(i64, i64)>(&scope.cursor(&place)).ok(), Some(place));
        }
    }
});
