use proptest::prelude::*;

use super::*;
use holdfast_domain::OrderStatus;

use crate::{
    access::Caller,
    orders::Status,
    problem::ProblemKind,
    request::{PageLimit, tests::LIMITS},
};

/// Calls `with` for requests of an anonymous caller.
fn reading<T>(with: impl FnOnce(&Reading<'_>) -> T) -> T {
    with(&Reading { limits: &LIMITS, caller: &Caller::anybody(), strict: false })
}

/// Reads `a` and `b` as whole numbers. Returns the wrong fields, in the order in which they were found.
fn wrong(body: &str) -> Vec<String> {
    let read = || {
        let text = JsonText::check(body.as_bytes())?;
        let mut fields = Fields::of_json(&text, &["a", "b"], false)?;
        reading(|reading| {
            fields.required::<i64>(0, reading);
            fields.optional::<i64>(1, reading);
        });
        fields.finish()
    };
    match read() {
        Ok(()) => Vec::new(),
        Err(problem) => {
            assert_eq!(problem.kind(), ProblemKind::Validation);
            problem.fields().map(ToOwned::to_owned).collect()
        }
    }
}

#[test]
fn unknown_fields_are_named_in_strict_mode() {
    let unknown = |body: &str, strict| {
        let text = JsonText::check(body.as_bytes()).unwrap();
        let fields = Fields::of_json(&text, &["a", "b"], strict).unwrap();
        fields.into_errors().into_iter().map(|error| error.field.into_owned()).collect::<Vec<_>>()
    };
    let body = r#"{"a":1,"c":[{"d":1}],"B":null,"c":2}"#;
    assert_eq!(unknown(body, true), ["c", "B"]);
    assert!(unknown(body, false).is_empty());
    let many: Vec<_> = (0..1000).map(|number| format!("\"x{number}\":1")).collect();
    let many = format!("{{{}}}", many.join(","));
    assert_eq!(unknown(&many, true).len(), UNKNOWN_MAX);
}

#[test]
fn every_wrong_field_is_named() {
    for (body, expected) in [
        (r#"{"a":1}"#, vec![]),
        (r#"{"a":1,"b":2,"c":{"d":[null]}}"#, vec![]),
        (r#" {"\u0061" : 1 } "#, vec![]),
        ("{}", vec!["a"]),
        (r#"{"a":null,"b":null}"#, vec!["a", "b"]),
        (r#"{"a":"1","b":1.5}"#, vec!["a", "b"]),
        (r#"{"a":NaN,"b":-Infinity}"#, vec!["a", "b"]),
        (r#"{"a":NaN,"b":true}"#, vec!["a", "b"]),
        (r#"{"a":1,"c":NaN}"#, vec!["body"]),
        (r#"{"a":1e400}"#, vec!["a"]),
        (r#"{"a":9223372036854775808}"#, vec!["a"]),
        (r#"{"a":1,"a":2,"a":3}"#, vec!["a"]),
        (r#"{"a":1,"b":01}"#, vec!["b"]),
        (r#"{"a":1,"c":tru}"#, vec!["c"]),
        (r#"{"a":1,"b":}"#, vec!["b"]),
        (r#"{"a":1"#, vec!["body"]),
        (r#"{"a":1} {}"#, vec!["body"]),
        (r#"{"a":1,}"#, vec!["body"]),
        (r"{a:1}", vec!["body"]),
        (r#"{"a":{},"b":[]}"#, vec!["a", "b"]),
    ] {
        assert_eq!(wrong(body), expected, "{body}");
    }
}

#[test]
fn null_and_absent_are_distinguished() {
    let text = JsonText::check(br#"{"a":null}"#).unwrap();
    let mut fields = Fields::of_json(&text, &["a", "b"], false).unwrap();
    assert_eq!(reading(|reading| fields.nullable::<i64>(0, reading)), Some(None));
    assert_eq!(reading(|reading| fields.nullable::<i64>(1, reading)), None);
    fields.finish().unwrap();
}

#[test]
fn every_wrong_parameter_of_a_query_is_named() {
    let text = "limit=0&skip=x&after=7&after=8&status=%70ending&other=1";
    let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
    let mut fields = Fields::of_query(&pairs, &["limit", "skip", "after", "before", "status"]);
    reading(|reading| {
        assert_eq!(fields.optional::<PageLimit>(0, reading), None);
        assert_eq!(fields.optional::<i64>(1, reading), None);
        assert_eq!(fields.optional::<i64>(2, reading), None);
        assert_eq!(fields.optional::<i64>(3, reading), None);
        assert_eq!(fields.optional(4, reading), Some(Status(OrderStatus::Pending)));
    });
    let mut wrong: Vec<_> = fields.into_errors().into_iter().map(|error| error.field).collect();
    wrong.sort_unstable();
    assert_eq!(wrong, ["after", "limit", "skip"]);
}

#[test]
fn a_refused_field_is_not_read() {
    let text = JsonText::check(br#"{"a":"x"}"#).unwrap();
    let mut fields = Fields::of_json(&text, &["a", "b"], false).unwrap();
    fields.refuse("a", "must not be given");
    fields.refuse("b", "must not be given");
    assert_eq!(reading(|reading| fields.optional::<i64>(0, reading)), None);
    assert_eq!(fields.into_errors(), [FieldError::new("a", "must not be given")]);
}

proptest! {
    /// This reader accepts exactly the objects that serde_json accepts.
    #[test]
    fn json_is_accepted_exactly_if_serde_json_accepts_it(body in r#"\{["abtrue:,\[\]{}0-9.eE+ \\-]{0,24}\}"#) {
        let text = JsonText::check(body.as_bytes()).unwrap();
        let ours = Fields::of_json(&text, &["a", "b"], false).is_ok();
        let theirs = serde_json::from_str::<IgnoredAny>(&body).is_ok();
        prop_assert_eq!(ours, theirs, "{}", body);
    }

    /// A field is found at any position.
    #[test]
    fn a_field_is_found_among_any_others(
        before in prop::collection::btree_map("[c-z]{1,8}", any::<i32>(), 0..5),
        number in any::<i64>(),
    ) {
        let mut object: serde_json::Map<_, _> =
            before.into_iter().map(|(key, value)| (key, value.into())).collect();
        object.insert("a".to_owned(), number.into());
        let body = serde_json::Value::from(object).to_string();
        let text = JsonText::check(body.as_bytes()).unwrap();
        let mut fields = Fields::of_json(&text, &["a"], false).unwrap();
        prop_assert_eq!(reading(|reading| fields.required::<i64>(0, reading)), Some(number));
    }
}
