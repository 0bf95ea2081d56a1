//! `GET /api-keys`

use axum::{extract::State, http::Uri, response::Response};

use crate::{
    api_keys::KeyBody,
    app::App,
    cursor::{Scope, page},
    problem::{Problem, ProblemSchema},
    query::Query,
};

/// The most keys of one answer.
const LIMIT_MAX: i64 = 1000;

/// The API keys, newest first
///
/// Also those that have expired or were revoked, and never with their secret. The header `Link` leads to the next page.
#[utoipa::path(
    get, path = "/api-keys", tag = "API keys", operation_id = "list_api_keys",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("cursor" = Option<String>, Query, min_length = 1,
            description = "Where the page begins, as the header Link of the page before has it"),
    ),
    responses(
        (status = 200, description = "The keys", body = Vec<KeyBody>,
            headers(("Link" = String, description = "The next page, with rel=\"next\""))),
        (status = 422, description = "Parameters are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(uri.query());
    let limit = query.integer("limit", 1..=LIMIT_MAX).unwrap_or(100);
    let scope = Scope::new("api-keys");
    let after: Option<String> = query.cursor(&scope);
    query.finish()?;
    let room = app.pages.reserve().await?;
    let mut keys = app.store.api_keys(after.as_deref(), limit + 1).await?;
    let more = keys.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = keys.last().filter(|_| more).map(|key| key.id.clone());
    let keys: Vec<_> = keys.into_iter().map(KeyBody::from).collect();
    Ok(page(&uri, &scope, &keys, next.as_ref(), room))
}
