//! Request bodies in, JSON bodies out.
//!
//! A body is read whole and bounded ([`receive`]), checked as JSON text ([`JsonText`]), and its
//! fields are read one by one ([`Fields`]), so that one answer names every wrong field and no
//! number passes through a float.

mod fields;
mod json_text;
mod receive;
pub mod value;

use bytes::Bytes;
use serde::Serialize;

pub use fields::Fields;
pub use json_text::JsonText;
pub use receive::{BodyLimits, receive};

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
