//! What an operator sends to have something done to dead letters.

use std::str::FromStr;

use bytes::Bytes;
use holdfast_admission::OrderedBy;
use holdfast_domain::{Invalid, Operator, OperatorNote, OrderId, OrderStatus, ProductId};
use holdfast_store::{DeadLetterFilter, DeadLetterPage, OrderPlace};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    body::{Fields, JsonText, value},
    cursor::Scope,
    problem::Problem,
};

/// The most orders that one request replays.
const REPLAYED_MAX: usize = 1000;
/// How many one request replays unless it says.
const REPLAYED_DEFAULT: i64 = 100;

/// Who wants it, and why.
#[derive(ToSchema)]
#[schema(as = OrderedBy)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct OrderedBySchema {
    /// Who wants it: 1 to 200 characters, kept in the order's history.
    #[schema(example = "ada@shop.example", min_length = 1, max_length = 200)]
    by: String,
    /// Why: 1 to 500 characters, kept there too.
    #[schema(example = "the carrier is back", min_length = 1, max_length = 500)]
    note: Option<String>,
}

/// Who wants an order discarded, why, and where it stands.
#[derive(ToSchema)]
#[schema(as = Discard)]
#[allow(dead_code)] // only for the OpenAPI document
pub struct DiscardSchema {
    /// Who wants it: 1 to 200 characters, kept in the order's history.
    #[schema(example = "ada@shop.example", min_length = 1, max_length = 200)]
    by: String,
    /// Why: 1 to 500 characters, kept there too.
    #[schema(example = "the receiver has no such order", min_length = 1, max_length = 500)]
    note: Option<String>,
    /// Where the order stands: `failed` if not given. With `pending`, an order is discarded that may be
    /// fulfilled already and is to be tried again.
    #[schema(value_type = Option<Discarded>)]
    state: Option<String>,
}

/// Where an order stands that is to be discarded.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)] // only for the OpenAPI document
pub enum Discarded {
    /// It could not be fulfilled.
    Failed,
    /// It may be fulfilled, and is to be tried again.
    Pending,
}

/// Which dead letters are to be replayed: `ids`, or else at least one of `product_id`, `failed_since`,
/// `failed_before` and `all`.
#[derive(ToSchema)]
#[schema(as = ReplayMany)]
#[allow(dead_code)] // only for the OpenAPI document
pub struct ReplayManySchema {
    /// Who wants it: 1 to 200 characters, kept in each order's history.
    #[schema(example = "ada@shop.example", min_length = 1, max_length = 200)]
    by: String,
    /// Why: 1 to 500 characters, kept there too.
    #[schema(example = "the carrier is back", min_length = 1, max_length = 500)]
    note: Option<String>,
    /// Just these: 1 to 1000 ids.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<i64>>,
    /// Only orders with this product on one of their lines.
    product_id: Option<i64>,
    /// Only orders that failed at this time or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    failed_since: Option<String>,
    /// Only orders that failed before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    failed_before: Option<String>,
    /// `true` for all of them.
    all: Option<bool>,
    /// With a filter: at most that many are replayed by this request; 100 if not given.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// With a filter: where to go on, as the answer before has it; only with the same filter.
    cursor: Option<String>,
}

/// A wish to replay many dead letters.
#[derive(Clone, Debug)]
pub struct ReplayMany {
    /// Who wants it.
    pub ordered: OrderedBy,
    /// Which.
    pub which: Which,
    /// What makes the cursors of its filter.
    pub scope: Scope,
}

/// Which dead letters.
#[derive(Clone, Debug)]
pub enum Which {
    /// These, ascending and each once.
    Ids(Vec<OrderId>),
    /// Those of a page.
    Matching(DeadLetterPage),
}

/// A time that the database can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub jiff::Timestamp);

impl Time {
    /// What a time must look like.
    pub const MUST: &'static str =
        "must be a time from 1970 on with its offset, such as 2026-01-31T12:00:00Z";
}

impl FromStr for Time {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse()
            .ok()
            .filter(|time| *time >= jiff::Timestamp::UNIX_EPOCH)
            .map(Self)
            .ok_or_else(|| Self::MUST.into())
    }
}

/// Reads who wants something, and why.
///
/// # Errors
/// All wrong fields at once.
pub fn ordered_by(body: &Bytes) -> Result<OrderedBy, Problem> {
    let text = JsonText::check(body)?;
    let mut fields = Fields::read(&text, ["by", "note"])?;
    let ordered = ordered(&mut fields);
    fields.finish()?;
    // `finish` has named what is missing.
    ordered.ok_or_else(|| Problem::body("must have by"))
}

/// Reads who wants an order discarded, and where it must stand.
///
/// # Errors
/// All wrong fields at once.
pub fn discard(body: &Bytes) -> Result<(OrderedBy, OrderStatus), Problem> {
    let text = JsonText::check(body)?;
    let mut fields = Fields::read(&text, ["by", "note", "state"])?;
    let ordered = ordered(&mut fields);
    let state = fields.nullable("state", |raw| match value::text(raw)?.as_str() {
        "failed" => Ok(OrderStatus::Failed),
        "pending" => Ok(OrderStatus::Pending),
        _ => Err(Invalid::from("must be failed or pending")),
    });
    fields.finish()?;
    // `finish` has named what is missing.
    let ordered = ordered.ok_or_else(|| Problem::body("must have by"))?;
    Ok((ordered, state.flatten().unwrap_or(OrderStatus::Failed)))
}

fn ordered<const N: usize>(fields: &mut Fields<'_, N>) -> Option<OrderedBy> {
    let by = fields.required("by", |raw| value::text(raw).and_then(Operator::new));
    let note =
        fields.nullable("note", |raw| value::text(raw).and_then(OperatorNote::new)).flatten();
    Some(OrderedBy { by: by?, note })
}

/// The fields that choose by a filter.
const FILTERS: [&str; 4] = ["product_id", "failed_since", "failed_before", "all"];

/// Reads which dead letters are to be replayed.
///
/// # Errors
/// All wrong fields at once.
pub fn replay_many(body: &Bytes) -> Result<ReplayMany, Problem> {
    let text = JsonText::check(body)?;
    let names = [
        "by",
        "note",
        "ids",
        "product_id",
        "failed_since",
        "failed_before",
        "all",
        "limit",
        "cursor",
    ];
    let mut fields = Fields::read(&text, names)?;
    let ordered = ordered(&mut fields);
    let (which, scope) = which(&mut fields);
    fields.finish()?;
    match (ordered, which) {
        (Some(ordered), Some(which)) => Ok(ReplayMany { ordered, which, scope }),
        // `finish` has named what is missing.
        _ => Err(Problem::body("must have by, and ids or a filter")),
    }
}

fn which<const N: usize>(fields: &mut Fields<'_, N>) -> (Option<Which>, Scope) {
    let by_filter = FILTERS.into_iter().any(|name| fields.has(name));
    if fields.has("ids") {
        for name in FILTERS.into_iter().chain(["limit", "cursor"]) {
            if fields.has(name) {
                fields.wrong(name, "must not be given together with ids");
            }
        }
        return (fields.required("ids", ids).map(Which::Ids), Scope::new("replay"));
    }
    if !by_filter {
        fields.wrong(
            "ids",
            "must be there, or else product_id, failed_since, failed_before, or all with true",
        );
    }
    let time = |raw: &RawValue| value::text(raw).and_then(|text| text.parse::<Time>());
    let filter = DeadLetterFilter {
        product: fields.optional("product_id", value::integer).map(ProductId),
        failed_since: fields.optional("failed_since", time).map(|time| time.0),
        failed_before: fields.optional("failed_before", time).map(|time| time.0),
    };
    fields.optional("all", |raw| match raw.get() {
        "true" => Ok(()),
        _ => Err("must be true, or not there".into()),
    });
    let limit = fields.optional("limit", |raw| value::integer(raw).and_then(in_range));
    let scope = Scope::new("replay")
        .filter(filter.product)
        .filter(filter.failed_since)
        .filter(filter.failed_before);
    let after = fields.optional("cursor", |raw| {
        value::text(raw).and_then(|text| scope.position::<(i64, i64)>(&text))
    });
    let page = DeadLetterPage {
        filter,
        after: after.map(|(created_us, id)| OrderPlace { created_us, id: OrderId(id) }),
        limit: limit.unwrap_or(REPLAYED_DEFAULT),
    };
    (Some(Which::Matching(page)), scope)
}

fn ids(raw: &RawValue) -> Result<Vec<OrderId>, Invalid> {
    let must = || Invalid::from(format!("must be an array of 1 to {REPLAYED_MAX} whole numbers"));
    let elements = value::elements(raw, REPLAYED_MAX).filter(|elements| !elements.is_empty());
    let elements = elements.ok_or_else(must)?;
    let ids: Result<Vec<_>, _> = elements.into_iter().map(value::integer).collect();
    let mut ids: Vec<_> = ids.map_err(|_| must())?.into_iter().map(OrderId).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn in_range(limit: i64) -> Result<i64, Invalid> {
    let in_range = usize::try_from(limit).is_ok_and(|it| (1..=REPLAYED_MAX).contains(&it));
    if in_range { Ok(limit) } else { Err(format!("must be between 1 and {REPLAYED_MAX}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<ReplayMany, Vec<String>> {
        replay_many(&Bytes::copy_from_slice(body.as_bytes()))
            .map_err(|problem| problem.fields().map(ToOwned::to_owned).collect())
    }

    #[test]
    fn who_is_asked_for_and_why_is_not() {
        let read = |body: &'static str| ordered_by(&Bytes::from_static(body.as_bytes()));
        let ordered = read(r#"{"by":"ada","note":"why not"}"#).unwrap();
        assert_eq!(ordered.as_ordered().note, Some("why not"));
        for body in [r#"{"by":"ada"}"#, r#"{"by":"ada","note":null}"#] {
            assert_eq!(read(body).unwrap().as_ordered().note, None);
        }
        for (body, wrong) in [
            ("{}", vec!["by"]),
            (r#"{"by":" ","note":""}"#, vec!["by", "note"]),
            (r#"{"by":null,"note":7}"#, vec!["by", "note"]),
            (r#"{"by":"a\u0000"}"#, vec!["by"]),
        ] {
            assert_eq!(read(body).unwrap_err().fields().collect::<Vec<_>>(), wrong, "{body}");
        }
    }

    #[test]
    fn a_discarded_order_has_failed_unless_it_is_said_to_be_pending() {
        let read = |body: &str| {
            discard(&Bytes::copy_from_slice(body.as_bytes()))
                .map(|(_, state)| state.as_str())
                .map_err(|problem| problem.fields().map(ToOwned::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(read(r#"{"by":"a"}"#), Ok("failed"));
        assert_eq!(read(r#"{"by":"a","state":null}"#), Ok("failed"));
        assert_eq!(read(r#"{"by":"a","state":"failed"}"#), Ok("failed"));
        assert_eq!(read(r#"{"by":"a","state":"pending"}"#), Ok("pending"));
        for state in ["\"completed\"", "7", "\"\"", "true"] {
            let body = format!(r#"{{"by":"a","state":{state}}}"#);
            assert_eq!(read(&body), Err(vec!["state".to_owned()]), "{state}");
        }
    }

    #[test]
    fn what_is_replayed_must_be_said() {
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
    fn ids_are_taken_once_and_filters_have_bounds() {
        let Which::Ids(ids) = read(r#"{"by":"a","ids":[3,1,3]}"#).unwrap().which else {
            panic!("not ids")
        };
        assert_eq!(ids, [OrderId(1), OrderId(3)]);
        let Which::Matching(page) = read(r#"{"by":"a","all":true}"#).unwrap().which else {
            panic!("no filter")
        };
        assert_eq!((page.limit, page.filter), (100, DeadLetterFilter::default()));
    }

    #[test]
    fn times_are_those_that_the_database_knows() {
        for good in ["1970-01-01T00:00:00Z", "2026-01-31T12:00:00.5+01:00"] {
            assert!(good.parse::<Time>().is_ok(), "{good}");
        }
        for bad in ["", "now", "1969-12-31T23:59:59Z", "2026-01-31", "-004800-01-01T00:00:00Z"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }
}
