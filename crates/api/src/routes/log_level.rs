//! `GET /log-level` and `PUT /log-level`

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use bytes::Bytes;
use holdfast_domain::Invalid;
use holdfast_telemetry::log_level;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    app::App,
    body::{Fields, JsonText, receive, value},
    problem::{Kind, Problem, ProblemSchema},
};

/// What this process logs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LogLevel)]
pub struct LogLevelBody {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives, as in `HOLDFAST_LOG`.
    #[schema(example = "info,holdfast_api=debug", min_length = 1, max_length = 1024)]
    pub log: String,
}

/// Show what this process logs
#[utoipa::path(
    get, path = "/log-level", tag = "log level", operation_id = "get_log_level",
    responses((status = 200, description = "What is logged now", body = LogLevelBody)),
)]
pub async fn get() -> Result<Json<LogLevelBody>, Problem> {
    now()
}

/// Change what this process logs
///
/// It counts for this process alone, until it ends; then `HOLDFAST_LOG` counts again. The change is logged as a
/// warning.
#[utoipa::path(
    put, path = "/log-level", tag = "log level", operation_id = "put_log_level",
    request_body(content = LogLevelBody),
    responses(
        (status = 200, description = "What is logged now", body = LogLevelBody),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "It is neither a level nor directives, or names crates that are not in the program",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn put(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LogLevelBody>, Problem> {
    let wanted = read(&receive(&headers, body, app.body).await?)?;
    // It was checked already.
    log_level::set(&wanted).map_err(|error| Problem::body(format!("log {error}")))?;
    now()
}

fn now() -> Result<Json<LogLevelBody>, Problem> {
    let log = log_level::get().ok_or_else(|| Problem::new(Kind::NotFound))?;
    Ok(Json(LogLevelBody { log }))
}

fn read(body: &Bytes) -> Result<String, Problem> {
    let text = JsonText::check(body)?;
    let mut fields = Fields::read(&text, ["log"])?;
    let log = fields.required("log", filter);
    fields.finish()?;
    log.ok_or_else(|| Problem::body("must have log"))
}

fn filter(raw: &RawValue) -> Result<String, Invalid> {
    let text = value::text(raw)?;
    log_level::check(&text).map_err(|error| Invalid::from(error.to_string()))?;
    Ok(text)
}
