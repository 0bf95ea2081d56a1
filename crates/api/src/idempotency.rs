//! The header `Idempotency-Key`, as in the IETF draft
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>).

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::problem::FieldError;

/// The header's name.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer repeats that to an earlier request with the same key.
pub const REPEATED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in characters.
pub const MAX_CHARS: usize = 255;

/// The key of a request, if it bears one.
///
/// The draft wants a structured field, that is, a text in quotes; most clients send the bare text. Both are
/// the same key.
///
/// # Errors
/// A key that is empty, too long, given twice, or has other characters than visible ASCII and
/// spaces.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, FieldError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong("must not be given twice"));
    }
    read(value).map(Some).ok_or_else(|| {
        wrong("must be a text of 1 to 255 visible ASCII characters, in quotes or bare")
    })
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
    FieldError::new("Idempotency-Key", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (HEADER, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_key_is_the_same_in_quotes_and_bare() {
        assert_eq!(key(&headers(&[])), Ok(None));
        assert_eq!(key(&headers(&["8e03978e-40d5"])), Ok(Some("8e03978e-40d5")));
        assert_eq!(key(&headers(&["\"8e03978e-40d5\""])), Ok(Some("8e03978e-40d5")));
        assert_eq!(key(&headers(&[&"x".repeat(255)])), Ok(Some("x".repeat(255).as_str())));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "x".repeat(256);
        for value in ["", " ", "\"\"", "\"a", "a\"b", "a\\b", &long, "a\tb"] {
            assert!(key(&headers(&[value])).is_err(), "{value:?}");
        }
        assert!(key(&headers(&["a", "a"])).is_err());
    }
}
