//! Errors of the queue.

/// Why a call failed. The call may still have had an effect.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("the address of Redis {0}")]
    Url(holdfast_telemetry::settings::MustBe),
    #[error("Redis did not answer in time")]
    Timeout,
    /// The stream or its consumer group does not exist, because Redis has lost its data or no worker has ever run. The depth of
    /// the queue is unknown.
    #[error("the queue's consumer group does not exist")]
    NoGroup,
    /// Redis has lost orders, and the workers have not published all of them again. The depth of the queue is unknown.
    #[error("orders are missing in the queue until the workers have published them again")]
    Incomplete,
    #[error("Redis refused a command or cannot be reached")]
    Redis(#[source] redis::RedisError),
}

impl From<redis::RedisError> for QueueError {
    fn from(error: redis::RedisError) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) {
            // A blocked read gets UNBLOCKED from Redis 7.0 when the stream is deleted.
            Self::NoGroup
        } else if error.code() == Some("REFILL") {
            Self::Incomplete
        } else {
            Self::Redis(error)
        }
    }
}
