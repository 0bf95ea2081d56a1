//! `POST /api-keys`

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use holdfast_store::LIVE_KEYS_MAX;

use crate::{
    api_keys::{self, MadeKeyBody, NewKeySchema},
    app::App,
    body::receive,
    problem::{Kind, Problem, ProblemSchema},
};

/// Make an API key
///
/// The answer is the only place where the key ever stands. It is good on every replica within seconds.
#[utoipa::path(
    post, path = "/api-keys", tag = "API keys", operation_id = "create_api_key",
    request_body(content = NewKeySchema),
    responses(
        (status = 201, description = "The key", body = MadeKeyBody),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "There are too many keys",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wanted = api_keys::read(&receive(&headers, body, app.body).await?)?;
    let made = wanted.make(&app.store).await?.ok_or_else(|| {
        let detail = format!("There are {LIVE_KEYS_MAX} keys that are good. Revoke one first.");
        Problem::with_detail(Kind::TooManyKeys, detail)
    })?;
    tracing::info!(id = made.made.id, name = made.made.name, "an API key was made");
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
