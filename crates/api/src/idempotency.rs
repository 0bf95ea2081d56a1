//! The header `Idempotency-Key`, as in the IETF draft
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>).

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use holdfast_domain::Money;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};

use crate::problem::FieldError;

/// The header's name in the document.
pub const HEADER_NAME: &str = "Idempotency-Key";
/// Its description in the document.
pub const DESCRIPTION: &str =
    "Makes it safe to repeat the request: 1 to 255 visible ASCII characters";
/// The header's name.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that repeats the answer to an earlier request with the same key.
pub const REPEATED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in characters.
pub const MAX_CHARS: usize = 255;

/// The key of a request.
///
/// The draft defines a structured field, which is a text in quotes, but most clients send the bare text. Both are the
/// same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKey(HeaderValue);

impl ClientKey {
    /// The key of a request, if it has one.
    ///
    /// # Errors
    /// The key is empty, too long, given twice, or has characters other than visible ASCII and spaces.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, FieldError> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(wrong("must not be given twice"));
        }
        if read(value).is_none() {
            return Err(wrong("must have 1 to 255 visible ASCII characters, in quotes or bare"));
        }
        Ok(Some(Self(value.clone())))
    }

    /// Without quotes.
    pub fn as_str(&self) -> &str {
        // It was checked when it was created.
        read(&self.0).unwrap_or_default()
    }
}

/// The schema of the header.
pub fn schema() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_CHARS))
        .into()
}

/// Adds a price to the fingerprint of a request.
pub fn add_price(request: &mut String, price: Option<Money>) {
    if let Some(price) = price {
        // Writing to a String cannot fail.
        let _ = write!(request, ",{}", price.minor());
    }
}

/// Adds texts to the fingerprint of a request. Their lengths separate them.
pub fn add_texts<const N: usize>(request: &mut String, texts: [Option<&str>; N]) {
    for text in texts {
        // Writing to a String cannot fail.
        let _ = match text {
            Some(text) => write!(request, "|{}:{text}", text.len()),
            None => write!(request, "|"),
        };
    }
}

fn read(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    let visible =
        key.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
    (visible && !key.trim().is_empty() && key.len() <= MAX_CHARS).then_some(key)
}

fn wrong(detail: &'static str) -> FieldError {
    FieldError::new(HEADER_NAME, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (HEADER, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn key(headers: &HeaderMap) -> Result<Option<String>, FieldError> {
        ClientKey::of(headers).map(|key| key.map(|key| key.as_str().to_owned()))
    }

    #[test]
    fn a_key_is_the_same_in_quotes_and_bare() {
        assert_eq!(key(&headers(&[])), Ok(None));
        assert_eq!(key(&headers(&["8e03978e-40d5"])), Ok(Some("8e03978e-40d5".to_owned())));
        assert_eq!(key(&headers(&["\"8e03978e-40d5\""])), Ok(Some("8e03978e-40d5".to_owned())));
        assert_eq!(key(&headers(&[&"x".repeat(255)])), Ok(Some("x".repeat(255))));
    }

    #[test]
    fn invalid_keys_are_refused() {
        let long = "x".repeat(256);
        for value in ["", " ", "\"\"", "\"a", "a\"b", "a\\b", &long, "a\tb"] {
            assert!(key(&headers(&[value])).is_err(), "{value:?}");
        }
        assert!(key(&headers(&["a", "a"])).is_err());
    }
}
