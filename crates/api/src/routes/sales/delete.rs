//! `DELETE /sales/{name}`

use axum::{
    extract::{Path, State},
    http::StatusCode,
};

use super::{named, unknown};
use crate::{
    app::App,
    problem::{Problem, ProblemSchema},
};

/// Take a flash sale away
///
/// Its products are sold as if it had never been, also one that was not open yet. The orders stay. One that
/// a FlashSale on Kubernetes has made comes back as long as that is there.
#[utoipa::path(
    delete, path = "/sales/{name}", tag = "flash sales", operation_id = "delete_sale",
    params(("name" = String, Path, min_length = 1, max_length = 320,
        description = "What it is called; a `/` in it is sent as `%2F`")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such sale",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "No sale can have this name",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "A product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let name = named(name)?;
    if !app.store.delete_sale(&name).await? {
        return Err(unknown());
    }
    tracing::info!(name = name.as_str(), "a sale was deleted");
    Ok(StatusCode::NO_CONTENT)
}
