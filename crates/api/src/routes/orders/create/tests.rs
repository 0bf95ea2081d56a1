use axum::http::HeaderMap;

use super::*;
use crate::request::{Reading, tests::LIMITS};

fn keyed(headers: &HeaderMap, body: &str) -> Result<PlaceOrder, Problem> {
    let caller = Caller::anybody();
    let reading = Reading { limits: &LIMITS, caller: &caller, strict: false };
    let KeyedBody { key, body } = KeyedBody::<NewOrder>::read(headers, body.as_bytes(), &reading)?;
    body.of(&caller, key.as_ref())
}

fn read(body: &str) -> Result<PlaceOrder, Problem> {
    keyed(&HeaderMap::new(), body)
}

fn wrong(body: &str) -> Vec<String> {
    read(body).unwrap_err().fields().map(ToOwned::to_owned).collect()
}

fn lines(body: &str) -> Vec<(i64, i32, Option<i64>)> {
    let lines = read(body).unwrap().lines;
    let line =
        |line: &RequestedLine| (line.product_id.0, line.quantity.units(), line.hold.map(|id| id.0));
    lines.iter().map(line).collect()
}

#[test]
fn wrong_quantities_and_ids_are_named() {
    for quantity in
        ["0", "-5", "1.5", "\"1\"", "9223372036854775808", "null", "1001", "1e400", "NaN", "[]"]
    {
        let body = format!("{{\"product_id\":3,\"quantity\":{quantity}}}");
        assert_eq!(wrong(&body), ["quantity"], "{quantity}");
        let body = format!("{{\"items\":[{{\"product_id\":3,\"quantity\":{quantity}}}]}}");
        assert_eq!(wrong(&body), ["items[0].quantity"], "{quantity}");
    }
    assert_eq!(wrong(r#"{"quantity":0}"#), ["product_id", "quantity"]);
}

#[test]
fn an_id_that_no_product_can_have_is_unknown() {
    let problem = read(r#"{"product_id":0,"quantity":1}"#).unwrap_err();
    assert_eq!(problem.kind(), crate::problem::ProblemKind::NotFound);
}

#[test]
fn lines_keep_their_order_and_lines_of_one_product_are_merged() {
    assert_eq!(lines(r#"{"product_id":3,"quantity":2}"#), [(3, 2, None)]);
    let item = |id, quantity| format!(r#"{{"product_id":{id},"quantity":{quantity}}}"#);
    let items = |items: &[String]| format!(r#"{{"items":[{}]}}"#, items.join(","));
    let twice = items(&[item(3, 2), item(1, 1), item(3, 5)]);
    assert_eq!(lines(&twice), [(3, 7, None), (1, 1, None)]);
    assert_eq!(wrong(&items(&[item(3, 600), item(3, 600)])), ["items[1]"]);
    assert_eq!(wrong(&items(&[])), ["items"]);
    assert_eq!(wrong(&items(&[item(1, 1), item(2, 1), item(3, 1), item(4, 1)])), ["items"]);
    assert_eq!(
        wrong(r#"{"items":[7,{"product_id":1}],"quantity":1}"#),
        ["quantity", "items[0]", "items[1].quantity"]
    );
    assert_eq!(wrong(r#"{"items":{}}"#), ["items"]);
}

#[test]
fn null_counts_as_absent() {
    let one = r#"{"product_id":3,"quantity":2,"items":null,"hold_id":null,"expected_price":null,
        "customer_ref":null,"metadata":null}"#;
    assert_eq!(lines(one), [(3, 2, None)]);
    let several = r#"{"items":[{"product_id":3,"quantity":2,"hold_id":null,"expected_price":null}],
        "product_id":null,"quantity":null,"hold_id":null,"expected_price":null,"customer_ref":null,"metadata":null}"#;
    assert_eq!(lines(several), [(3, 2, None)]);
    assert_eq!(
        wrong(r#"{"product_id":null,"quantity":null,"items":null}"#),
        ["product_id", "quantity"]
    );
}

#[test]
fn a_hold_has_its_own_line() {
    let items =
        r#"{"items":[{"product_id":3,"quantity":2,"hold_id":9},{"product_id":3,"quantity":1}]}"#;
    assert_eq!(lines(items), [(3, 2, Some(9)), (3, 1, None)]);
    assert_eq!(lines(r#"{"product_id":3,"quantity":2,"hold_id":9}"#), [(3, 2, Some(9))]);
    let twice = r#"{"items":[{"product_id":3,"quantity":2,"hold_id":9},{"product_id":3,"quantity":2,"hold_id":9}]}"#;
    assert_eq!(wrong(twice), ["items[1]"]);
}

#[test]
fn customer_and_metadata_have_size_limits() {
    let with =
        |name: &str, value: &str| format!(r#"{{"product_id":3,"quantity":2,"{name}":{value}}}"#);
    let long = |length: usize| format!("\"{}\"", "ü".repeat(length));
    for value in ["\"\"", "5", "\"a\\u0000\"", &long(201)] {
        assert_eq!(wrong(&with("customer_ref", value)), ["customer_ref"], "{value}");
    }
    assert!(read(&with("customer_ref", &long(200))).is_ok());
    assert!(read(&with("customer_ref", "null")).unwrap().customer_ref.is_none());
    let large = format!("{{\"a\":{}}}", long(5000));
    for value in ["[]", "5", "{\"a\":\"\\u0000\"}", "{\"a\":\"\\ud800\"}", "{\"a\":NaN}", &large] {
        let named = wrong(&with("metadata", value));
        assert!(named == ["metadata"] || named == ["body"], "{value}: {named:?}");
    }
    let kept = read(&with("metadata", "{\"a\": [1, {\"b\": null}]}")).unwrap().metadata;
    assert_eq!(kept.as_ref().map(Metadata::as_str), Some("{\"a\": [1, {\"b\": null}]}"));
}

#[test]
fn the_same_request_is_known_however_it_is_written() {
    let keyed = |body: &str| {
        let headers = HeaderMap::from_iter([(idempotency::HEADER, HeaderValue::from_static("k"))]);
        keyed(&headers, body).unwrap().key
    };
    let metadata = |text: &str| {
        keyed(&format!(r#"{{"product_id":3,"quantity":2,"metadata":{text}}}"#)).unwrap()
    };
    let written_again = metadata(r#"{ "b": "\u0061", "a": 1 }"#);
    assert!(metadata(r#"{"a":1,"b":"a"}"#).is_repeat_of(&written_again));
    assert!(!metadata(r#"{"a":1,"b":"b"}"#).is_repeat_of(&written_again));
    for others in [
        [r#"{"a":10000000000000000000001}"#, r#"{"a":10000000000000000000000}"#],
        [r#"{"a":0.10000000000000000001}"#, r#"{"a":0.1}"#],
        [r#"{"a":1e-400}"#, r#"{"a":0}"#],
        [r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#],
        [r#"{"a":1,"a":2}"#, r#"{"a":2}"#],
    ] {
        let [one, other] = others.map(metadata);
        assert!(!one.is_repeat_of(&other), "{others:?}");
    }
    let first = keyed(r#"{"product_id":3,"quantity":2}"#).unwrap();
    for same in [
        r#"{ "quantity": 2, "product_id": 3 }"#,
        r#"{"items":[{"product_id":3,"quantity":2}]}"#,
        r#"{"product_id":3,"quantity":2,"customer_ref":null,"unknown":7}"#,
    ] {
        assert!(keyed(same).unwrap().is_repeat_of(&first), "{same}");
    }
    for other in [
        r#"{"product_id":3,"quantity":1}"#,
        r#"{"product_id":3,"quantity":2,"hold_id":1}"#,
        r#"{"product_id":3,"quantity":2,"customer_ref":"a"}"#,
        r#"{"product_id":3,"quantity":2,"metadata":{"a":1}}"#,
        r#"{"product_id":3,"quantity":2,"metadata":{"$serde_json::private::RawValue":"1"}}"#,
    ] {
        assert!(!keyed(other).unwrap().is_repeat_of(&first), "{other}");
    }
}
