//! Data of the shop that is kept with an order and that Holdfast does not interpret.

use crate::{Invalid, json};

/// The longest metadata, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 4096;

/// A JSON object of up to [`MAX_METADATA_BYTES`], as the text that the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(String);

impl Metadata {
    /// Checks the text of a JSON object, and keeps it byte for byte.
    ///
    /// # Errors
    /// The text is too long, or is not a JSON object of at most [`json::JSON_DEPTH_MAX`] levels, or
    /// PostgreSQL's `jsonb` cannot store it: it contains NUL, half of a surrogate pair, or a number
    /// outside the range of a double.
    pub fn new(json: String) -> Result<Self, Invalid> {
        if !json.starts_with('{') {
            return Err("must be a JSON object".into());
        }
        if json.len() > MAX_METADATA_BYTES {
            return Err(format!("must be at most {MAX_METADATA_BYTES} bytes of JSON").into());
        }
        let facts = json::check(&json).map_err(|error| Invalid::from(error.to_string()))?;
        if facts.nul {
            return Err("must not contain NUL".into());
        }
        if facts.lone_surrogate {
            return Err("must be valid Unicode".into());
        }
        if facts.beyond_double {
            return Err("must not contain a number outside the range of a double".into());
        }
        Ok(Self(json))
    }

    /// Stored metadata. It may be longer than the limit, because `jsonb` formats JSON in its own way.
    pub fn kept(json: String) -> Self {
        Self(json)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_stays_as_it_was_sent() {
        for text in [
            "{}",
            "{ \"b\" : 1.50, \"a\":[ ] , \"b\":2 }",
            r#"{"n":123456789012345678901234567890,"d":5e-324,"e":1E+2,"z":-0.0}"#,
            r#"{"\u00e4":"\u00e4\/\ud83d\ude00","$serde_json::private::RawValue":"[1]"}"#,
        ] {
            assert_eq!(Metadata::new(text.to_owned()).unwrap().as_str(), text);
        }
    }

    #[test]
    fn invalid_metadata_is_refused() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_METADATA_BYTES - 7));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
        for text in [
            "",
            "[]",
            "7",
            "{",
            "{}x",
            " {}",
            r#"{"a":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":1e309}"#,
            r#"{"a":1e-1000}"#,
            r#"{"a":NaN}"#,
            &long,
            &deep,
        ] {
            assert!(Metadata::new(text.to_owned()).is_err(), "{text}");
        }
        assert!(Metadata::new(long.replacen('x', "", 1)).is_ok());
    }
}
