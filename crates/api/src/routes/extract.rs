//! What several endpoints take from a request.

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::problem::{FieldError, Problem};

/// The id at the end of the path.
#[derive(Clone, Copy, Debug)]
pub struct PathId(pub i64);

impl<S: Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(parts.uri.path())
    }
}

/// The id before the last part of the path: `/orders/{id}/cancel`.
#[derive(Clone, Copy, Debug)]
pub struct ParentId(pub i64);

impl<S: Sync> FromRequestParts<S> for ParentId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let path = parts.uri.path().trim_end_matches('/');
        let parent = path.rsplit_once('/').map_or(path, |(parent, _)| parent);
        PathId::of(parent).map(|PathId(id)| Self(id))
    }
}

impl PathId {
    /// The id at the end of `path`.
    ///
    /// # Errors
    /// It is no whole number of 64 bits.
    pub fn of(path: &str) -> Result<Self, Problem> {
        let last = path.rsplit('/').next().unwrap_or(path);
        // "+1" is not how an id is written.
        let id = last.parse().ok().filter(|_| !last.starts_with('+'));
        id.map(Self).ok_or_else(|| {
            Problem::validation(vec![FieldError::new("id", "must be a whole number of 64 bits")])
        })
    }
}
