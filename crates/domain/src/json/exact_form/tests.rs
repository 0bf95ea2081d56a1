use proptest::prelude::*;

use super::exact_form;

fn form(text: &str) -> String {
    exact_form(text).unwrap()
}

#[test]
fn equal_values_have_the_same_form() {
    for same in [
        &[r#"{"a":1,"b":[true,null]}"#, " {\n\t\"b\" : [ true , null ] , \"a\" : 1 } "][..],
        &["1", "1.0", "1e0", "10E-1", "0.1e+1", "1.000e000", "1000e-3"],
        &["0", "-0", "0.0", "0e5", "-0.000E-99999999999999999999999999999999999999999999"],
        &["-12.50", "-1250e-2", "-0.1250E2"],
        &["1e-400", "0.1e-399"],
        &["1e99999999999999", "10e99999999999998"],
        &[r#""a\u00fc\ud83d\ude00\/""#, r#""\u0061ü😀/""#],
        &[r#"{"\u0061":1}"#, r#"{"a":1}"#],
        &[r#"{"b":1,"a":1,"a":2}"#, r#"{"a":1,"b":1,"a":2}"#],
        &[
            r#"{"$serde_json::private::RawValue":"1"}"#,
            r#"{ "\u0024serde_json::private::RawValue" : "1" }"#,
        ],
        &["{}", "{ }"],
    ] {
        for text in same {
            assert_eq!(form(text), form(same[0]), "{text}");
        }
    }
}

#[test]
fn different_values_have_different_forms() {
    for others in [
        &["10000000000000001", "10000000000000002", "10000000000000000"][..],
        &[
            "10000000000000000000001",
            "10000000000000000000000",
            "9007199254740993",
            "9007199254740992",
        ],
        &["0.1", "0.10000000000000000001", "0.1000000000000000055511151231257827"],
        &["1e-400", "0", "1e-401", "-1e-400"],
        &["1e-99999999999999999999", "1e-99999999999999999998"],
        &["1", "-1", "10", "\"1\"", "true", "null", "[1]", "{}", "[]", "\"\"", "\"null\""],
        &[r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, r#"{"a":2}"#, r#"{"a":1}"#, r#"{"a":1,"a":1}"#],
        &["[1,2]", "[2,1]", "[12]", "[[1],2]", "[1,[2]]", "[\"1,2\"]"],
        &[r#"{"a":"b"}"#, r#"{"a":{"b":1}}"#, r#"{"a:b":1}"#, r#"{"a":null}"#],
        &["\"e\\u0301\"", "\"\\u00e9\""],
        &[r#"{"$serde_json::private::RawValue":"1"}"#, "1", "\"1\""],
    ] {
        for (at, text) in others.iter().enumerate() {
            for other in &others[..at] {
                assert_ne!(form(text), form(other), "{text} and {other}");
            }
        }
    }
}

#[test]
fn deep_nesting_and_invalid_json_have_no_form() {
    assert!(exact_form(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
    for text in [&*format!("{}{}", "[".repeat(65), "]".repeat(65)), "", "{", "01", "[1,]"] {
        assert!(exact_form(text).is_err(), "{text}");
    }
}

/// A decimal: its digits and its power of ten.
fn decimal() -> impl Strategy<Value = (bool, String, i32)> {
    (any::<bool>(), "[0-9]{1,40}", -60..60_i32)
}

/// Notations of a decimal: how far the point is moved, and additional zeros.
fn written((negative, digits, power): &(bool, String, i32), moved: usize, zeros: usize) -> String {
    let moved = moved.min(digits.len());
    let (whole, fraction) = digits.split_at(digits.len() - moved);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = format!("{fraction}{}", "0".repeat(zeros));
    let point = if fraction.is_empty() { "" } else { "." };
    let power = power + i32::try_from(moved).unwrap();
    let sign = if *negative { "-" } else { "" };
    format!("{sign}{whole}{point}{fraction}e{power}")
}

/// The same as a number of units of 10^-200, written out.
fn units((negative, digits, power): &(bool, String, i32)) -> String {
    let zeros = usize::try_from(power + 200).unwrap();
    let text = format!("{digits}{}", "0".repeat(zeros));
    let text = text.trim_start_matches('0');
    match text {
        "" => "0".to_owned(),
        text if *negative => format!("-{text}"),
        text => text.to_owned(),
    }
}

proptest! {
    #[test]
    fn a_number_has_one_form_in_every_notation(
        number in decimal(), moved in 0..40_usize, zeros in 0..5_usize,
    ) {
        prop_assert_eq!(form(&written(&number, moved, zeros)), form(&written(&number, 0, 0)));
    }

    #[test]
    fn numbers_have_the_same_form_exactly_if_they_are_equal(
        (sign, digits, power) in decimal(), last in 0..10_u8, shift in 0..3_i32, moved in 0..40_usize,
    ) {
        let one = (sign, digits.clone(), power);
        // A similar number: with another last digit, or the same with more zeros.
        let mut other = digits;
        other.pop();
        other.push(char::from(b'0' + last));
        other.extend(std::iter::repeat_n('0', usize::try_from(shift).unwrap()));
        let other = (sign, other, power - shift);
        let same = form(&written(&one, moved, 1)) == form(&written(&other, 0, 0));
        prop_assert_eq!(same, units(&one) == units(&other));
    }

    #[test]
    fn escaped_and_plain_strings_have_the_same_form(
        name in "[a-zü😀\"]{0,9}", text in ".{0,12}",
    ) {
        let escaped = |text: &str| -> String {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
            units.collect::<Vec<_>>().concat()
        };
        let plain = serde_json::json!({ name.clone(): [text.clone()] }).to_string();
        let other = format!("{{ \"{}\" : [\"{}\"] }}", escaped(&name), escaped(&text));
        prop_assert_eq!(form(&plain), form(&other));
    }
}
