//! `DELETE /holds/{id}`

use axum::{extract::State, http::StatusCode};
use holdfast_admission::ReleaseHold;
use holdfast_domain::HoldId;

use crate::{
    access::Caller,
    app::App,
    holds::unknown,
    problem::{Problem, ProblemSchema},
    routes::extract::PathId,
};

/// Let go of a hold
///
/// Its units are in stock again at once.
#[utoipa::path(
    delete, path = "/holds/{id}", tag = "holds", operation_id = "release_hold",
    params(("id" = i64, Path, description = "The hold's id")),
    responses(
        (status = 204, description = "It keeps nothing any more"),
        (status = 404, description = "There is no such hold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "It is over already; `state` tells how it ended",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The id is no whole number",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Too many orders wait, the product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 504, description = "The answer took too long; the hold may be over or not",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn release(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let hold = app.store.hold(HoldId(id)).await?;
    let hold = hold
        .filter(|hold| caller.may_see(hold.customer_ref.as_ref()))
        .ok_or_else(|| unknown(id))?;
    let release = ReleaseHold { hold_id: hold.id, product_id: hold.product_id };
    app.admission.release(release).await?;
    Ok(StatusCode::NO_CONTENT)
}
