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
    summary: "Get the numbers of now",
    description: "Orders, refusals and waits of the process that answers, and the queue, the workers and the backlog of \
                  the whole system. The answer comes from memory: Redis and PostgreSQL are asked at most once a second, \
                  however many ask here. What is unknown is null, never 0.\n\n\
                  404 where the console is off (`HOLDFAST_CONSOLE`).",
    answer: "The numbers",
    headers: &[],
    problems: &[&[ProblemKind::NotFound]],
};

pub(super) async fn stats(State(app): State<App>) -> Result<Json<StatsBody>, Problem> {
    Ok(Json(console(&app)?.stats()))
}
