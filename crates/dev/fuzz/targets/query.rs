//! The query of a list, with its cursor: a cursor that is taken is one that was given out.

#![no_main]

use holdfast_api::{cursor::Scope, dead_letters::Time, query::Query};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut query = Query::read(Some(text));
    let limit = query.integer("limit", 1..=1_000);
    let _ = query.parsed::<Time>("failed_since", || Time::MUST.to_owned());
    let scope = Scope::new("orders").filter(limit);
    let place: Option<(i64, i64)> = query.cursor(&scope);
    if let Some(place) = place {
        assert_eq!(scope.position::<(i64, i64)>(&scope.cursor(&place)).ok(), Some(place));
    }
    let _ = query.finish();
});
