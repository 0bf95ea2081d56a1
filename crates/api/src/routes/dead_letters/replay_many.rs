//! `POST /dead-letters/replay`

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use holdfast_domain::OrderId;
use holdfast_store::Replayed;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    body::receive,
    dead_letters::{self, ReplayManySchema, Which},
    orders::Status,
    problem::{Problem, ProblemSchema},
};

/// What became of a wish to replay dead letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replayed)]
pub struct ReplayedBody {
    /// The ids of the orders that are pending again, ascending.
    pub replayed: Vec<i64>,
    /// The orders that were asked for and were not replayed. Those whose `status` is `failed` are locked by another
    /// program: try these again. The others are no dead letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_replayed: Vec<NotReplayedBody>,
    /// With a filter: if there may be more, what to send as `cursor` to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An order that was not replayed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotReplayed)]
pub struct NotReplayedBody {
    /// Which.
    #[schema(example = 4711)]
    pub id: i64,
    /// Where it stands; without it, there is no such order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Status>)]
    pub status: Option<&'static str>,
}

/// Replay many dead letters
///
/// Either those with the `ids` that are given, or those that a filter fits, the oldest orders first;
/// `all` fits each. At most `limit` of a filter's are replayed by one request: as long as the answer has a
/// `cursor`, send the same again with it. An order that is replayed and fails again meanwhile is not met again.
///
/// Each order that has failed is pending again, with all its tries before it, and keeps in its history
/// who wanted that and why. To send the same again does no harm: what is pending already stays so.
#[utoipa::path(
    post, path = "/dead-letters/replay", tag = "dead letters", operation_id = "replay_dead_letters",
    request_body(content = ReplayManySchema),
    responses(
        (status = 200, description = "What was replayed", body = ReplayedBody),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn replay_many(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReplayedBody>, Problem> {
    let asked = dead_letters::replay_many(&receive(&headers, body, app.body).await?)?;
    let ordered = asked.ordered.as_ordered();
    let (Replayed { orders: swept, locked }, next) = match &asked.which {
        Which::Ids(ids) => (app.store.replay(ids, ordered).await?, None),
        Which::Matching(page) => app.store.replay_page(page, ordered).await?,
    };
    let mut replayed: Vec<_> = swept.iter().map(|order| order.order_id.0).collect();
    replayed.sort_unstable();
    app.admission.publish(swept.into_iter().map(|order| (order.order_id, order.trace_context)));
    let not_replayed = match asked.which {
        Which::Ids(mut ids) => {
            ids.retain(|id| replayed.binary_search(&id.0).is_err());
            others(&app, &ids).await?
        }
        Which::Matching(_) => others(&app, &locked).await?,
    };
    let cursor = next.map(|place| asked.scope.cursor(&(place.created_us, place.id.0)));
    Ok(Json(ReplayedBody { replayed, not_replayed, cursor }))
}

/// Where orders stand that were not replayed.
async fn others(app: &App, ids: &[OrderId]) -> Result<Vec<NotReplayedBody>, Problem> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = app.store.statuses(ids).await.map_err(Problem::after_change)?;
    let status =
        |id: OrderId| found.iter().find(|(found, _)| *found == id).map(|(_, it)| it.as_str());
    Ok(ids.iter().map(|id| NotReplayedBody { id: id.0, status: status(*id) }).collect())
}
