//! What can go wrong with the queue.

/// Why a call on the queue failed. Whether it had an effect is not known then; the queue's users
/// are made for that.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The address of Redis is not understood.
    #[error("the address of Redis is not a valid redis:// URL")]
    Url(#[source] redis::RedisError),
    /// Redis did not answer in time.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The stream or its consumer group does not exist: Redis has lost its data, or no worker has
    /// ever run. How many orders wait is not known then.
    #[error("the queue's consumer group does not exist")]
    NoGroup,
    /// Anything else.
    #[error("Redis refused a command or cannot be reached")]
    Redis(#[source] redis::RedisError),
}

impl From<redis::RedisError> for QueueError {
    fn from(error: redis::RedisError) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) {
            // UNBLOCKED is what a blocked read hears from Redis 7.0 when the stream is deleted.
            Self::NoGroup
        } else {
            Self::Redis(error)
        }
    }
}
