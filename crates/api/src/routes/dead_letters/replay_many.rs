//! `POST /dead-letters/replay`

use axum::{Json, extract::State, http::Method};
use holdfast_admission::OrderedBy;
use holdfast_domain::{Invalid, OperatorName, OperatorNote, OrderId, ProductId};
use holdfast_store::{DeadLetterFilter, DeadLetterPage, OrderPlace, Replayed};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    access::Scope,
    app::App,
    cursor::{Cursor, CursorScope},
    endpoint::{Access, Endpoint, Tag, WRITES},
    orders::Status,
    problem::Problem,
    request::{
        Fields, FilterTime, Input, JsonBody, PageLimit, Reading, Request, Value, Wrong,
        array_between,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/dead-letters/replay",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::DeadLetters,
    operation_id: "replay_dead_letters",
    summary: "Replay many dead letters",
    description: "Replays the orders with the given `ids`, or those that match a filter, oldest first; `all` matches \
                  every dead letter. With a filter, one request replays at most `limit` orders: as long as the answer \
                  has a `cursor`, repeat the request with it. An order that is replayed and fails again in the \
                  meantime is not replayed twice.\n\n\
                  Each failed order becomes pending again, with its full number of attempts. `by` and `note` are kept \
                  in its history. The request can be repeated safely: an order that is already pending does not \
                  change.",
    answer: "The replayed orders",
    headers: &[],
    problems: &[WRITES],
};

/// The most orders that one request replays.
const REPLAYED_MAX: usize = 1000;

/// The dead letters to replay: either `ids`, or at least one of `product_id`, `failed_since`, `failed_before` and
/// `all`.
#[derive(Debug, Request)]
#[request(
    check = ids_or_filter,
    form(
        ReplayOfIds,
        "The dead letters with these ids.",
        needs(ids),
        without(product_id, failed_since, failed_before, all, limit, cursor)
    ),
    form(ReplayOfFilter, "The dead letters that match a filter, of which at least one is given.", without(ids)),
    example("By their ids", { "by": "ada@shop.example", "note": "the carrier is available again", "ids": [6] }),
    example("Of a product", { "by": "ada@shop.example", "product_id": 6, "limit": 100 })
)]
pub struct ReplayMany {
    /// The name of the operator: 1 to 200 characters, kept in each order's history.
    #[field(example = "ada@shop.example")]
    by: OperatorName,
    /// The reason: 1 to 500 characters, kept in each order's history.
    #[field(example = "the carrier is available again")]
    note: Option<OperatorNote>,
    /// The ids of 1 to 1000 orders.
    ids: Option<OrderIds>,
    /// Only orders that contain this product.
    product_id: Option<ProductId>,
    /// Only orders that failed at or after this time.
    failed_since: Option<FilterTime>,
    /// Only orders that failed before this time.
    failed_before: Option<FilterTime>,
    /// `true` replays all dead letters.
    all: Option<True>,
    /// With a filter: the most orders that this request replays; 100 if not given.
    limit: Option<PageLimit>,
    /// With a filter: where to continue, from the previous answer; only with the same filter.
    cursor: Option<Cursor>,
}

/// The fields of a filter.
const FILTERS: [&str; 4] = ["product_id", "failed_since", "failed_before", "all"];

fn ids_or_filter(fields: &mut Fields<'_>) {
    if fields.has("ids") {
        for name in FILTERS.into_iter().chain(["limit", "cursor"]) {
            fields.refuse(name, "must not be given together with ids");
        }
    } else if !FILTERS.into_iter().any(|name| fields.has(name)) {
        fields.wrong(
            "ids",
            "must be given, or else product_id, failed_since, failed_before, or all: true",
        );
    }
}

/// Ids of orders, ascending and without duplicates.
#[derive(Clone, Debug)]
struct OrderIds(Vec<OrderId>);

impl Value for OrderIds {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let must =
            || Invalid::from(format!("must be an array of 1 to {REPLAYED_MAX} whole numbers"));
        let elements = input.elements(REPLAYED_MAX).filter(|elements| !elements.is_empty());
        let ids = elements.ok_or_else(must)?.into_iter().map(Input::integer);
        let ids: Result<Vec<_>, _> = ids.collect();
        let mut ids: Vec<_> = ids.map_err(|_| must())?.into_iter().map(OrderId).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(Self(ids))
    }

    fn schema() -> RefOr<Schema> {
        array_between(i64::schema(), 1, REPLAYED_MAX)
    }
}

/// `true`
#[derive(Clone, Copy, Debug)]
struct True;

impl Value for True {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        if input.boolean() == Ok(true) { Ok(Self) } else { Err("must be true or absent".into()) }
    }

    fn schema() -> RefOr<Schema> {
        // Not an enumeration with one value, because client generators do not support it for booleans.
        bool::schema()
    }
}

/// The selected dead letters.
#[derive(Clone, Debug)]
enum Which {
    /// Those with these ids, ascending and without duplicates.
    Ids(Vec<OrderId>),
    /// Those of a page.
    Matching(DeadLetterPage),
}

impl ReplayMany {
    /// The selected dead letters, and the scope of the filter's cursors.
    fn which(self) -> Result<(Which, CursorScope), Problem> {
        let scope = CursorScope::new("replay");
        if let Some(OrderIds(ids)) = self.ids {
            return Ok((Which::Ids(ids), scope));
        }
        let filter = DeadLetterFilter {
            product: self.product_id,
            failed_since: self.failed_since.map(|time| time.0),
            failed_before: self.failed_before.map(|time| time.0),
        };
        let scope =
            scope.filter(filter.product).filter(filter.failed_since).filter(filter.failed_before);
        // `ids_or_filter` has checked that one of them is given. Never replay orders that no field selects.
        if self.all.is_none() && filter == DeadLetterFilter::default() {
            return Err(Problem::body("must have ids or a filter"));
        }
        let after: Option<(i64, i64)> = Cursor::position(self.cursor, &scope)?;
        let page = DeadLetterPage {
            filter,
            after: after.map(|(created_us, id)| OrderPlace { created_us, id: OrderId(id) }),
            limit: self.limit.unwrap_or(PageLimit::DEFAULT).0,
        };
        Ok((Which::Matching(page), scope))
    }
}

/// The result of a replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replayed)]
pub struct ReplayedBody {
    /// The ids of the replayed orders, ascending.
    pub replayed: Vec<i64>,
    /// The orders that were not replayed. Those with the `status` `failed` are locked by another transaction: try
    /// them again. The others are not dead letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_replayed: Vec<NotReplayedBody>,
    /// With a filter: the `cursor` for the next request, if there may be more orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An order that was not replayed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotReplayed)]
pub struct NotReplayedBody {
    /// The id of the order.
    #[schema(example = 4711)]
    pub id: i64,
    /// The status of the order; absent if the order does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

pub(super) async fn replay_many(
    State(app): State<App>,
    JsonBody(mut asked): JsonBody<ReplayMany>,
) -> Result<Json<ReplayedBody>, Problem> {
    let ordered = OrderedBy { by: asked.by.clone(), note: asked.note.take() };
    let (which, scope) = asked.which()?;
    let ordered = ordered.as_ordered();
    let (Replayed { orders: swept, locked }, next) = match &which {
        Which::Ids(ids) => (app.store.replay(ids, ordered).await?, None),
        Which::Matching(page) => app.store.replay_page(page, ordered).await?,
    };
    let mut replayed: Vec<_> = swept.iter().map(|order| order.order_id.0).collect();
    replayed.sort_unstable();
    app.admission.publish(swept.into_iter().map(|order| (order.order_id, order.trace_context)));
    let not_replayed = match which {
        Which::Ids(mut ids) => {
            ids.retain(|id| replayed.binary_search(&id.0).is_err());
            others(&app, &ids).await?
        }
        Which::Matching(_) => others(&app, &locked).await?,
    };
    let cursor = next.map(|place| scope.cursor(&(place.created_us, place.id.0)));
    Ok(Json(ReplayedBody { replayed, not_replayed, cursor }))
}

/// The status of orders that were not replayed.
async fn others(app: &App, ids: &[OrderId]) -> Result<Vec<NotReplayedBody>, Problem> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = app.store.statuses(ids).await.map_err(Problem::after_change)?;
    let status =
        |id: OrderId| found.iter().find(|(found, _)| *found == id).map(|(_, it)| Status(*it));
    Ok(ids.iter().map(|id| NotReplayedBody { id: id.0, status: status(*id) }).collect())
}

#[cfg(test)]
mod tests;
