//! The kinds of problems, explained: where the `type` of a problem leads.

use axum::{Json, http::Uri};
use serde::Serialize;

use crate::problem::{Problem, ProblemKind};

/// A kind of problem.
#[derive(Serialize)]
pub struct Explained {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    explanation: &'static str,
}

impl From<ProblemKind> for Explained {
    fn from(kind: ProblemKind) -> Self {
        Self {
            r#type: kind.uri(),
            title: kind.title(),
            status: kind.status().as_u16(),
            explanation: kind.explanation(),
        }
    }
}

/// All kinds.
pub async fn list() -> Json<Vec<Explained>> {
    Json(ProblemKind::ALL.iter().copied().map(Explained::from).collect())
}

/// One kind.
///
/// # Errors
/// There is no such kind.
pub async fn get(uri: Uri) -> Result<Json<Explained>, Problem> {
    let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
    ProblemKind::ALL
        .iter()
        .copied()
        .find(|kind| kind.uri() == path)
        .map(|kind| Json(kind.into()))
        .ok_or_else(|| Problem::new(ProblemKind::NotFound))
}
