//! The id of a request, which is in the answer's header, in problems and in log lines.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

/// The header of requests and answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is accepted from a client.
const MAX_BYTES: usize = 128;

/// The id of one request: printable ASCII.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Every id is printable ASCII.
        self.0.to_str().unwrap_or_default()
    }

    pub fn into_header(self) -> HeaderValue {
        self.0
    }
}

/// Creates ids from a prefix, which is unique for each process, and a counter.
#[derive(Debug)]
pub struct RequestIds {
    process: [u8; 16],
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        let (process, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { process: hex(process), next: AtomicU64::new(0) }
    }
}

impl RequestIds {
    /// The id of the client if it is valid, or else a new one.
    pub fn take_or_make(&self, headers: &HeaderMap) -> RequestId {
        match headers.get(X_REQUEST_ID) {
            Some(given) if is_valid(given.as_bytes()) => RequestId(given.clone()),
            _ => self.make(),
        }
    }

    /// A new id, in one allocation.
    pub fn make(&self) -> RequestId {
        let mut id = Vec::with_capacity(33);
        id.extend_from_slice(&self.process);
        id.push(b'-');
        id.extend_from_slice(&hex(self.next.fetch_add(1, Ordering::Relaxed)));
        // Hexadecimal digits and a hyphen are always a valid header value.
        let value = HeaderValue::from_maybe_shared(Bytes::from(id));
        RequestId(value.unwrap_or_else(|_| HeaderValue::from_static("-")))
    }
}

fn is_valid(id: &[u8]) -> bool {
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn hex(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (at, digit) in text.iter_mut().rev().enumerate() {
        *digit = DIGITS[usize::from((number >> (4 * at)).to_le_bytes()[0] & 0xf)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(id: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
        RequestIds::default().take_or_make(&headers).as_str() == id
    }

    #[test]
    fn a_valid_id_is_kept_and_an_invalid_one_is_replaced() {
        for good in ["a", "7f3a-42", "~!\"'", &"x".repeat(128)] {
            assert!(taken(good), "{good}");
        }
        for bad in ["", "a b", "ü", "a\tb", &"x".repeat(129)] {
            assert!(!taken(bad), "{bad}");
        }
    }

    #[test]
    fn new_ids_are_unique() {
        let ids = RequestIds::default();
        let (first, second) = (ids.make(), ids.make());
        assert_ne!(first.as_str(), second.as_str());
        assert_ne!(first.as_str(), RequestIds::default().make().as_str());
        assert!(first.as_str().ends_with("-0000000000000000"));
    }

    #[test]
    fn hexadecimal_equals_that_of_the_standard_library() {
        for number in [0, 1, 0xdead_beef, u64::MAX] {
            assert_eq!(hex(number), format!("{number:016x}").as_bytes());
        }
    }
}
