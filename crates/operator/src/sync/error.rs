//! Why a round failed.

use crate::{
    authority::{IssueError, MaterialError},
    bounded_file::ReadError,
    calls::CallError,
    object_names::API_SERVICE,
};

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    #[error("the Secret with the certificates could not be read or written")]
    Secret(#[source] CallError),
    #[error("no certificate could be issued")]
    Issue(#[from] IssueError),
    #[error("the serving certificate cannot be used")]
    Material(#[from] MaterialError),
    #[error("the APIService {API_SERVICE} could not be read or written")]
    ApiService(#[source] CallError),
    #[error("the operator's Deployment could not be read")]
    Deployment(#[source] CallError),
    #[error("the given certificate cannot be read")]
    Files(#[from] ReadError),
}

impl RoundError {
    /// The value of the label `step`.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Secret(_) | Self::Issue(_) | Self::Material(_) => "secret",
            Self::ApiService(_) | Self::Deployment(_) => "apiservice",
            Self::Files(_) => "files",
        }
    }
}
