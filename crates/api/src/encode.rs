//! Bodies of answers.

use bytes::Bytes;
use serde::Serialize;

/// A value as JSON.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    // Enough for an order or a small product.
    let mut body = Vec::with_capacity(256);
    if let Err(error) = serde_json::to_writer(&mut body, value) {
        // A Vec takes everything, and no type of ours has keys that are not texts.
        tracing::error!(%error, "an answer could not be written");
    }
    Bytes::from(body)
}
