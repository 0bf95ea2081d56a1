//! `GET /health`, `GET /livez` and `GET /readyz`: the state of this process. None of them calls the database or Redis.

use axum::{Json, extract::State, http::Method};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    endpoint::{Access, BoundEndpoint, Endpoint, Tag},
    problem::{Problem, ProblemKind},
};

const HEALTH: Endpoint = Endpoint {
    method: Method::GET,
    path: "/health",
    path_example: "",
    access: Access::Open,
    tag: Tag::Health,
    operation_id: "health",
    summary: "Check that the API answers",
    description: "Does not check the database or Redis.",
    answer: "The API answers",
    headers: &[],
    problems: &[],
};

const LIVEZ: Endpoint = Endpoint {
    path: "/livez",
    operation_id: "livez",
    summary: "Check that this process is alive",
    answer: "The process is alive",
    ..HEALTH
};

const READYZ: Endpoint = Endpoint {
    path: "/readyz",
    operation_id: "readyz",
    summary: "Check that this process is ready for requests",
    description: "A process is not ready until it has checked the database's schema, and while it shuts down.",
    answer: "The process is ready",
    problems: &[&[ProblemKind::Unavailable]],
    ..HEALTH
};

/// The state of this process.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// The version of the program.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [HEALTH.answered_by(health), LIVEZ.answered_by(health), READYZ.answered_by(readyz)]
}

async fn health() -> Json<Health> {
    Json(OK)
}

async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    app.readiness
        .get()
        .map(|()| Json(OK))
        .map_err(|reason| Problem::with_detail(ProblemKind::Unavailable, reason))
}
