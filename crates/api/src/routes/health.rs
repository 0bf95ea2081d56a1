//! How this process is. None of these asks the database or Redis.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    problem::{Kind, Problem, ProblemSchema},
};

/// How this process is.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`: a process that is not answers something else, or not at all.
    #[schema(example = "ok")]
    status: &'static str,
    /// The version that runs.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Whether the API is there
#[utoipa::path(
    get, path = "/health", tag = "health",
    responses((status = 200, description = "It is there", body = Health)),
)]
pub async fn health() -> Json<Health> {
    Json(OK)
}

/// Whether this process lives
#[utoipa::path(
    get, path = "/livez", tag = "health",
    responses((status = 200, description = "It lives", body = Health)),
)]
pub async fn livez() -> Json<Health> {
    Json(OK)
}

/// Whether this process wants requests
///
/// It does not before it has found the database's schema, nor when it is about to end.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "It wants requests", body = Health),
        (status = 503, description = "It does not: it is starting or ending",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    app.readiness
        .get()
        .map(|()| Json(OK))
        .map_err(|reason| Problem::with_detail(Kind::Unavailable, reason))
}
