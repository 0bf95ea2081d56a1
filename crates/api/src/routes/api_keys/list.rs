//! `GET /api-keys`

use axum::{
    extract::State,
    http::{Method, Uri},
};

use crate::{
    access::Scope,
    api_keys::{self, KeyBody},
    app::App,
    cursor::{Cursor, ListPart, PageAnswer, page},
    endpoint::{Access, Endpoint, READS, Tag},
    problem::Problem,
    request::{PageLimit, Query},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/api-keys",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::ApiKeys,
    operation_id: "list_api_keys",
    summary: "List API keys",
    description: "Newest first, including expired and revoked keys, and without their secrets. The header \
                  `Link` has the next page.",
    answer: "The keys",
    headers: &[],
    problems: &[READS],
};

pub(super) async fn list(
    State(app): State<App>,
    Query(asked): Query<ListPart>,
    uri: Uri,
) -> Result<PageAnswer<KeyBody>, Problem> {
    let limit = asked.limit.unwrap_or(PageLimit::DEFAULT).0;
    let scope = api_keys::list();
    let after: Option<String> = Cursor::position(asked.cursor, &scope)?;
    let room = app.pages.reserve().await?;
    let mut keys = app.store.api_keys(after.as_deref(), limit + 1).await?;
    let more = keys.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = keys.last().filter(|_| more).map(|key| key.id.clone());
    let keys: Vec<_> = keys.into_iter().map(KeyBody::from).collect();
    Ok(page(&uri, &scope, &keys, next.as_ref(), room))
}
