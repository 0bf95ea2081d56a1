//! Request bodies.
//!
//! A body is read whole and bounded ([`receive`]) and checked as JSON text ([`JsonText`]). Its fields are read by
//! [`request`](crate::request).

mod json_text;
mod receive;

pub use json_text::JsonText;
pub use receive::{BodyLimits, receive};
