use proptest::prelude::*;
use serde_json::{Value, value::RawValue};

use super::*;

/// Strings within strings. A parser that trusts the key gives each a new recursion limit.
fn bomb(key: &str, levels: usize) -> String {
    let mut text = String::from("0");
    for _ in 0..levels {
        // Escaped so that the next level adds five bytes to each escape instead of doubling it.
        let escaped = text.replace('\\', "\\u005c").replace('"', "\\u0022");
        text = format!("{}{{\"{key}\":\"{escaped}\"}}{}", "[".repeat(60), "]".repeat(60));
    }
    text
}

#[test]
fn the_special_keys_of_serde_json_are_found_in_every_notation() {
    for key in [
        "$serde_json::private::RawValue",
        "$serde_json::private::Number",
        "\\u0024serde_json::private::RawValue",
        "$serde_json:\\u003aprivate::RawValue",
        "$serde_json::private::\\n",
        "$serde_json::private::",
    ] {
        assert!(check(&bomb(key, 3)).unwrap().reserved_key, "{key}");
        assert!(matches!(from_str::<Value>(&bomb(key, 3)), Err(JsonError::ReservedKey)), "{key}");
    }
    for key in [
        "$serde_json::private:",
        "serde_json::private::RawValue",
        "\\\\u0024serde_json::private::",
        "",
    ] {
        assert!(!check(&bomb(key, 1)).unwrap().reserved_key, "{key}");
    }
    // In a string, it has no meaning.
    assert!(!check(r#"{"a":"$serde_json::private::RawValue"}"#).unwrap().reserved_key);
}

#[test]
fn parsers_get_json_only_up_to_the_allowed_depth() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(from_str::<Value>(&nested(JSON_DEPTH_MAX)).is_ok());
    for depth in [JSON_DEPTH_MAX + 1, 128, 100_000] {
        assert!(matches!(check(&nested(depth)), Err(JsonError::TooDeep)), "{depth}");
    }
    assert!(matches!(check(&"{\"a\":".repeat(100_000)), Err(JsonError::TooDeep)));
    let wide = format!("[{}]", vec!["[[]]"; 10_000].join(","));
    assert!(check(&wide).is_ok());
    for levels in 1..40 {
        let text = bomb("$serde_json::private::RawValue", levels);
        assert!(from_str::<Value>(&text).is_err());
    }
}

#[test]
fn invalid_unicode_and_out_of_range_numbers_are_found() {
    let facts = |text: &str| check(text).unwrap();
    for text in [r#""\u0000""#, r#"{"\u0000":1}"#] {
        assert!(facts(text).nul, "{text}");
    }
    for text in [
        r#""\ud800""#,
        r#""\udfff""#,
        r#""\ud800\ud800\udc00""#,
        r#""\ud800\n""#,
        r#""\udc00\ud800""#,
    ] {
        assert!(facts(text).lone_surrogate, "{text}");
    }
    for text in [
        "1e309",
        "-1e309",
        "1e1000",
        "1e-1000",
        "0e99999999999999999999",
        &format!("1{}", "0".repeat(309)),
    ] {
        assert!(facts(text).beyond_double, "{text}");
    }
    for text in [
        "0",
        "-0",
        "5e-324",
        "1e308",
        "1.7976931348623157e308",
        "1e-999",
        "0e0",
        "1e+0007",
        "9007199254740993",
        r#""\ud83d\ude00""#,
        r#""\\u0000 \\ud800""#,
        &format!("0.{}", "1".repeat(400)),
    ] {
        assert_eq!(facts(text), JsonFacts::default(), "{text}");
    }
}

proptest! {
    /// This reader accepts exactly what serde_json accepts as JSON.
    #[test]
    fn json_is_accepted_exactly_if_serde_json_accepts_it(
        text in r#"[\[{]?["abtruefalsn:,\[\]{}0-9.eE+ \\u\x01é-]{0,24}[\]}]?"#,
    ) {
        let theirs = serde_json::from_str::<&RawValue>(&text).is_ok();
        prop_assert_eq!(check(&text).is_ok(), theirs, "{}", text);
    }

    #[test]
    fn any_json_is_parsed_as_serde_json_does(text in json()) {
        prop_assert!(check(&text).is_ok(), "{}", text);
        let ours = from_str::<Value>(&text).ok();
        prop_assert_eq!(ours, serde_json::from_str::<Value>(&text).ok());
    }

    #[test]
    fn any_bytes_are_checked_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = from_slice::<Value>(&bytes);
    }
}

/// JSON in all its notations.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just(" true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        r#""([a-zé☃]|\\[nrt"\\/bf]|\\u00[0-7][0-9a-f]){0,6}""#,
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|all| format!("[{}]", all.join(" , "))),
            prop::collection::vec(("[a-c]{0,2}", inner), 0..5).prop_map(|all| {
                let all: Vec<_> =
                    all.into_iter().map(|(key, value)| format!("\"{key}\" :{value}\n")).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    })
}
