//! `DELETE /api-keys/{id}`

use axum::{Json, extract::State, http::Method};
use holdfast_domain::Invalid;

use crate::{
    access::Scope,
    api_keys::KeyBody,
    app::App,
    endpoint::{Access, Endpoint, Tag, WRITES},
    problem::{Problem, ProblemKind},
    request::{PathArgument, PathText},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::DELETE,
    path: "/api-keys/{id}",
    path_example: "k3v9wq2mzt7a",
    access: Access::Shop(Scope::Admin),
    tag: Tag::ApiKeys,
    operation_id: "revoke_api_key",
    summary: "Revoke an API key",
    description: "All replicas refuse the key within a few seconds. Revoking it again changes nothing.",
    answer: "The revoked key",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], WRITES],
};

/// The public part of a key.
pub(super) struct KeyId(String);

impl PathText for KeyId {
    const NAME: &'static str = "id";
    const DESCRIPTION: &'static str = "The public part of the key, between `hf_` and the next `_`";

    fn read(text: String) -> Result<Self, Invalid> {
        Ok(Self(text))
    }
}

pub(super) async fn revoke(
    State(app): State<App>,
    PathArgument(KeyId(id)): PathArgument<KeyId>,
) -> Result<Json<KeyBody>, Problem> {
    // PostgreSQL does not accept NUL in a text.
    let key = if id.contains('\0') { None } else { app.store.revoke_api_key(&id).await? };
    let key = key.ok_or_else(|| {
        Problem::with_detail(ProblemKind::NotFound, "There is no API key with this id.")
    })?;
    tracing::info!(id = key.id, name = key.name, "an API key was revoked");
    Ok(Json(key.into()))
}
