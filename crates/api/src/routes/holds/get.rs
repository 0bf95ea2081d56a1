//! `GET /holds/{id}`

use axum::{Json, extract::State};
use holdfast_domain::HoldId;

use crate::{
    access::Caller,
    app::App,
    holds::{HoldBody, unknown},
    problem::{Problem, ProblemSchema},
    routes::extract::PathId,
};

/// One hold
///
/// It is `expired` from the moment its time is over, whether or not its units have been given back
/// already.
#[utoipa::path(
    get, path = "/holds/{id}", tag = "holds", operation_id = "get_hold",
    params(("id" = i64, Path, description = "The hold's id")),
    responses(
        (status = 200, description = "The hold", body = HoldBody),
        (status = 404, description = "There is no such hold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The id is no whole number",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<HoldBody>, Problem> {
    let hold = app.store.hold(HoldId(id)).await?;
    let hold = hold.filter(|hold| caller.may_see(hold.customer_ref.as_ref()));
    Ok(Json(hold.ok_or_else(|| unknown(id))?.into()))
}
