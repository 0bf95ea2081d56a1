//! `GET /stats`

use axum::{Json, extract::State, http::Method};

use super::console;
use crate::{
    access::Scope,
    app::App,
    console::StatsBody,
    endpoint::{Access, Endpoint, Tag},
    problem::{Problem, ProblemKind},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/stats",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::Console,
    operation_id: "get_stats",
    summary: "Get current statistics",
    description: "Orders, refusals and waiting times of the process that answers, and the queue, the workers and the backlog \
                  of the whole system. The answer comes from memory, which is refreshed from Redis and PostgreSQL at most \
                  once per second. Unknown values are null, never 0.\n\n\
                  404 if the console is off (`HOLDFAST_CONSOLE`).",
    answer: "The statistics",
    headers: &[],
    problems: &[&[ProblemKind::NotFound]],
};

pub(super) async fn stats(State(app): State<App>) -> Result<Json<StatsBody>, Problem> {
    Ok(Json(console(&app)?.stats()))
}
