//! Calls to the API server, each with a time limit.

use std::time::Duration;

use tokio::time::timeout;

/// The longest wait for an answer of the API server.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);
/// The name that the API server records for fields that the operator writes.
pub const FIELD_MANAGER: &str = "holdfast-operator";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the API server did not answer in time")]
    Timeout,
    #[error("the API server refused, or cannot be reached")]
    Kube(#[source] Box<kube::Error>),
}

/// Makes a call.
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    call_within(CALL_LIMIT, call).await
}

/// Makes a call with a different time limit.
pub async fn call_within<T>(
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| CallError::Kube(Box::new(error))),
        Err(_elapsed) => Err(CallError::Timeout),
    }
}

impl CallError {
    /// The HTTP status of the answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout => None,
        }
    }

    /// Whether another client has created or changed the object first.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }
}
