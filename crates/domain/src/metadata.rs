//! What a shop keeps with an order and nobody here looks into.

use crate::Invalid;

/// The longest metadata, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 8 * 1024;

/// A JSON object of up to [`MAX_METADATA_BYTES`], as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(String);

impl Metadata {
    /// Takes the text of a JSON object; that it is JSON the caller has checked.
    ///
    /// # Errors
    /// A text that is too long or begins as something else.
    pub fn new(json: String) -> Result<Self, Invalid> {
        if !json.starts_with('{') {
            return Err("must be a JSON object".into());
        }
        if json.len() > MAX_METADATA_BYTES {
            return Err(format!("must be at most {MAX_METADATA_BYTES} bytes of JSON").into());
        }
        Ok(Self(json))
    }

    /// Metadata that is kept already; it may be longer than what is taken now, for a database
    /// writes JSON in its own way.
    pub fn kept(json: String) -> Self {
        Self(json)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
