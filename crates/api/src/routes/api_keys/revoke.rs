//! `DELETE /api-keys/{id}`

use axum::{
    Json,
    extract::{Path, State},
};

use crate::{
    api_keys::KeyBody,
    app::App,
    problem::{Kind, Problem, ProblemSchema},
};

/// Revoke an API key
///
/// It stops to be good on every replica within seconds. Revoking it again changes nothing.
#[utoipa::path(
    delete, path = "/api-keys/{id}", tag = "API keys", operation_id = "revoke_api_key",
    params(("id" = String, Path, description = "The public part of the key: what stands between `hf_` and the next `_`")),
    responses(
        (status = 200, description = "The key, revoked", body = KeyBody),
        (status = 404, description = "There is no such key",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<KeyBody>, Problem> {
    // PostgreSQL takes no NUL in a text.
    let key = if id.contains('\0') { None } else { app.store.revoke_api_key(&id).await? };
    let key = key
        .ok_or_else(|| Problem::with_detail(Kind::NotFound, "There is no API key with this id."))?;
    tracing::info!(id = key.id, name = key.name, "an API key was revoked");
    Ok(Json(key.into()))
}
