//! `GET /log-level` and `PUT /log-level`

use axum::{Json, http::Method};
use holdfast_domain::Invalid;
use holdfast_telemetry::log_level;
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    access::Scope,
    endpoint::{Access, BoundEndpoint, Endpoint, Tag},
    problem::{Problem, ProblemKind},
    request::{Input, JsonBody, Reading, Request, Value, Wrong, text_between},
};

const GET: Endpoint = Endpoint {
    method: Method::GET,
    path: "/log-level",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::LogLevel,
    operation_id: "get_log_level",
    summary: "Get the log level",
    description: "The log level of this process.",
    answer: "The current log level",
    headers: &[],
    problems: &[],
};

const PUT: Endpoint = Endpoint {
    method: Method::PUT,
    operation_id: "put_log_level",
    summary: "Change the log level",
    description: "Changes the log level of this process until it ends; after a restart, `HOLDFAST_LOG` applies again. The change is \
                  logged as a warning.",
    ..GET
};

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [GET.answered_by(get), PUT.answered_by(put)]
}

/// The new log level of this process.
#[derive(Debug, Request)]
struct NewLogLevel {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives, as in `HOLDFAST_LOG`.
    #[field(example = "info,holdfast_api=debug")]
    log: Directives,
}

/// The log level of this process.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LogLevel)]
struct LogLevelBody {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives, as in `HOLDFAST_LOG`.
    #[schema(example = "info,holdfast_api=debug")]
    log: String,
}

/// A valid level or directives.
#[derive(Debug)]
struct Directives(String);

impl Value for Directives {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let text = input.text()?;
        log_level::check(&text).map_err(|error| Invalid::from(error.to_string()))?;
        Ok(Self(text))
    }

    fn schema() -> RefOr<Schema> {
        text_between(1, 1024)
    }
}

async fn get() -> Result<Json<LogLevelBody>, Problem> {
    now()
}

async fn put(JsonBody(wanted): JsonBody<NewLogLevel>) -> Result<Json<LogLevelBody>, Problem> {
    // The directives are valid: they were checked when they were read.
    log_level::set(&wanted.log.0).map_err(|error| Problem::body(format!("log {error}")))?;
    now()
}

fn now() -> Result<Json<LogLevelBody>, Problem> {
    let log = log_level::get().ok_or_else(|| Problem::new(ProblemKind::NotFound))?;
    Ok(Json(LogLevelBody { log }))
}
