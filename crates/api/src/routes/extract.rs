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

impl PathId {
    /// The id at the end of `path`.
    ///
    /// # Errors
    /// It is no whole number of 64 bits.
    pub fn of(path: &str) -> Result<Self, Problem> {
        let last = path.rsplit('/').next().unwrap_or(path);
        last.parse().map(Self).map_err(|_| {
            Problem::validation(vec![FieldError::new("id", "must be a whole number of 64 bits")])
        })
    }
}
