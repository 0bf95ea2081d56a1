//! Bodies of answers.

use bytes::Bytes;
use serde::Serialize;

/// A value as JSON.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    // Enough for an order or a small product.
    let mut body = Vec::with_capacity(256);
    if let Err(error) = serde_json::to_writer(&mut body, value) {
        // Writing to a Vec cannot fail, and all keys of our types are strings.
        tracing::error!(%error, "an answer could not be encoded");
    }
    Bytes::from(body)
}
