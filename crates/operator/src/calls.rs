//! Calls to the API server, each with a time limit.

use std::time::Duration;

use tokio::time::timeout;

/// The longest wait for the API server.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// By which name our writes stand in the objects.
pub const FIELD_MANAGER: &str = "holdfast-operator";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error("the API server did not answer in time")]
    Timeout,
    /// Anything else.
    #[error("the API server refused, or cannot be reached")]
    Kube(#[source] Box<kube::Error>),
}

/// Makes a call.
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| CallError::Kube(Box::new(error))),
        Err(_elapsed) => Err(CallError::Timeout),
    }
}

impl CallError {
    /// The HTTP status that the API server has answered with.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout => None,
        }
    }

    /// Somebody else was faster: made the object, or changed it since it was read.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }
}
