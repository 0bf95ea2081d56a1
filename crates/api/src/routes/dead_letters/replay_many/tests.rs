use super::*;
use crate::request::tests;

fn read(body: &str) -> Result<Which, Vec<String>> {
    tests::read::<ReplayMany>(body)
        .and_then(ReplayMany::which)
        .map(|(which, _)| which)
        .map_err(|problem| problem.fields().map(ToOwned::to_owned).collect())
}

#[test]
fn a_replay_needs_ids_or_a_filter() {
    for (body, wrong) in [
        ("{}", vec!["by", "ids"]),
        (r#"{"by":"a","limit":7}"#, vec!["ids"]),
        (r#"{"by":"a","ids":[]}"#, vec!["ids"]),
        (r#"{"by":"a","ids":[1.5]}"#, vec!["ids"]),
        (r#"{"by":"a","ids":["1"]}"#, vec!["ids"]),
        (r#"{"by":"a","ids":7}"#, vec!["ids"]),
        (r#"{"by":"a","ids":[1],"all":true,"limit":1}"#, vec!["all", "limit"]),
        (r#"{"by":"a","all":false}"#, vec!["all"]),
        (r#"{"by":"a","all":true,"limit":0}"#, vec!["limit"]),
        (r#"{"by":"a","all":true,"limit":1001}"#, vec!["limit"]),
        (r#"{"by":"a","all":true,"cursor":"made-up"}"#, vec!["cursor"]),
        (
            r#"{"by":"a","failed_since":"yesterday","failed_before":7}"#,
            vec!["failed_since", "failed_before"],
        ),
        (r#"{"by":"a","product_id":"x"}"#, vec!["product_id"]),
    ] {
        assert_eq!(read(body).unwrap_err(), wrong, "{body}");
    }
    let many = format!("{{\"by\":\"a\",\"ids\":{:?}}}", (0..1001).collect::<Vec<_>>());
    assert_eq!(read(&many).unwrap_err(), ["ids"]);
}

#[test]
fn ids_are_deduplicated_and_filters_are_validated() {
    let Which::Ids(ids) = read(r#"{"by":"a","ids":[3,1,3]}"#).unwrap() else { panic!("not ids") };
    assert_eq!(ids, [OrderId(1), OrderId(3)]);
    let nulls = r#"{"by":"a","ids":[2],"product_id":null,"failed_since":null,"failed_before":null,"all":null,
        "limit":null,"cursor":null}"#;
    assert!(matches!(read(nulls), Ok(Which::Ids(_))));
    let nulls = r#"{"by":"a","ids":null,"product_id":2,"all":null,"limit":null,"cursor":null}"#;
    assert!(matches!(read(nulls), Ok(Which::Matching(_))));
    let Which::Matching(page) = read(r#"{"by":"a","all":true}"#).unwrap() else {
        panic!("no filter")
    };
    assert_eq!((page.limit, page.filter), (100, DeadLetterFilter::default()));
}
