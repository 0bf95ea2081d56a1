//! Checks the head of a request, and determines how its body ends.
//!
//! hyper parses each head again. This check is needed because hyper answers a malformed head without a problem document,
//! and accepts heads that proxies may interpret differently: without `Host`, or with both `Content-Length` and
//! `Transfer-Encoding` (RFC 9112, sections 3.2 and 6.3).

use std::{mem::MaybeUninit, net::Ipv6Addr};

use axum::http::{HeaderValue, Uri};

use super::body_end::BodyEnd;
use crate::problem::ProblemKind;

/// The most header lines of a request.
pub(super) const HEADERS_MAX: usize = 100;
/// The longest request target. RFC 9112 recommends that at least 8,000 bytes are supported.
const TARGET_BYTES_MAX: usize = 8192;

/// The result of parsing the beginning of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// More bytes are needed.
    Partial,
    /// A valid head of this many bytes.
    Complete { bytes: usize, body: BodyEnd },
    /// The answer is a problem, and the connection ends.
    Refused(RefusedHead),
}

/// The reason why a request is refused before routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedHead {
    pub kind: ProblemKind,
    /// The detail of the problem.
    pub detail: &'static str,
    /// The request's own id, if it could be read.
    pub request_id: Option<HeaderValue>,
}

impl RefusedHead {
    pub fn new(kind: ProblemKind, detail: &'static str) -> Self {
        Self { kind, detail, request_id: None }
    }
}

/// Parses the first `bytes` of a request. A head may have at most `max` bytes.
pub(super) fn inspect(bytes: &[u8], max: usize) -> Head {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < max => return Head::Partial,
        Ok(httparse::Status::Partial) => return Head::Refused(too_large(&bytes[..max])),
        Err(error) => return Head::Refused(malformed(error)),
    };
    if length > max {
        return Head::Refused(too_large(&bytes[..max]));
    }
    match check(&request) {
        Ok(body) => Head::Complete { bytes: length, body },
        Err((kind, detail)) => {
            let id = request.headers.iter().find(|it| it.name.eq_ignore_ascii_case("x-request-id"));
            let request_id = id.and_then(|id| HeaderValue::from_bytes(id.value).ok());
            Head::Refused(RefusedHead { kind, detail, request_id })
        }
    }
}

/// Whether a head ends in `bytes`. The first `seen` bytes do not contain the end.
pub(super) fn has_end(bytes: &[u8], seen: usize) -> bool {
    let new = &bytes[seen.saturating_sub(3).min(bytes.len())..];
    new.iter().enumerate().any(|(at, byte)| {
        let rest = &new[at + 1..];
        *byte == b'\n' && (rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
    })
}

type HeadError = (ProblemKind, &'static str);

fn check(request: &httparse::Request<'_, '_>) -> Result<BodyEnd, HeadError> {
    let unreadable = |detail| Err((ProblemKind::Unreadable, detail));
    let target = request.path.unwrap_or_default();
    if target.len() > TARGET_BYTES_MAX {
        return Err((ProblemKind::TargetTooLong, ProblemKind::TargetTooLong.explanation()));
    }
    let method = request.method.unwrap_or_default();
    let valid = Uri::try_from(target).is_ok_and(|uri| match target {
        "*" => method == "OPTIONS",
        _ => target.starts_with('/') || uri.scheme().is_some() || method == "CONNECT",
    });
    if !valid {
        return unreadable("The request target is not valid.");
    }
    let http_1_1 = request.version == Some(1);
    let (mut host, mut length, mut chunked) = (None, None, false);
    for header in request.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("host") {
            if host.replace(header.value).is_some() {
                return unreadable("The request has more than one `Host` header.");
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            let Some(bytes) = decimal(header.value) else {
                return unreadable("`Content-Length` must be one whole number.");
            };
            if length.replace(bytes).is_some() {
                return unreadable("The request has more than one `Content-Length` header.");
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return unreadable("`Transfer-Encoding` must be `chunked`.");
            }
            chunked = true;
        }
    }
    match host {
        Some(host) if !is_host(host) => return unreadable("The `Host` header is not valid."),
        None if http_1_1 => return unreadable("The request has no `Host` header."),
        _ => {}
    }
    match (length, chunked) {
        (_, true) if !http_1_1 => unreadable("HTTP/1.0 has no `Transfer-Encoding`."),
        (Some(_), true) => {
            unreadable("The request has both `Content-Length` and `Transfer-Encoding`.")
        }
        (None, true) => Ok(BodyEnd::chunked()),
        (length, false) => Ok(BodyEnd::after(length.unwrap_or(0))),
    }
}

/// Parses digits; a number that is too large is an error.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = digits.then(|| std::str::from_utf8(value).ok()?.parse::<u64>().ok()).flatten()?;
    // hyper reserves the two largest numbers.
    (number <= i64::MAX.unsigned_abs()).then_some(number)
}

/// A name or an address, optionally with a port. Names with characters that RFC 3986 allows but no resolver accepts are
/// refused.
fn is_host(value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let (name, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if value.last() != Some(&b']') => (&value[..colon], &value[colon + 1..]),
        _ => (value, &b""[..]),
    };
    if name.is_empty() || port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
        return false;
    }
    match name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")) {
        Some(v6) => std::str::from_utf8(v6).is_ok_and(|v6| v6.parse::<Ipv6Addr>().is_ok()),
        None => name.iter().all(plain),
    }
}

fn malformed(error: httparse::Error) -> RefusedHead {
    let unreadable = |detail| RefusedHead::new(ProblemKind::Unreadable, detail);
    match error {
        httparse::Error::TooManyHeaders => RefusedHead::new(
            ProblemKind::HeadersTooLarge,
            "The request has more than 100 header lines.",
        ),
        httparse::Error::Version => unreadable("Only versions 1.0 and 1.1 of HTTP are supported."),
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            unreadable("A header line of the request is malformed.")
        }
        httparse::Error::NewLine => unreadable("A line of the request does not end in CR LF."),
        httparse::Error::Status | httparse::Error::Token => {
            unreadable("The request does not begin with a request line of HTTP/1.1.")
        }
    }
}

/// The request line or the headers are longer than a head may be.
fn too_large(bytes: &[u8]) -> RefusedHead {
    let line_ends = bytes.contains(&b'\n');
    let kind = if line_ends { ProblemKind::HeadersTooLarge } else { ProblemKind::TargetTooLong };
    RefusedHead::new(kind, kind.explanation())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 16 * 1024;

    fn refused(head: &str) -> ProblemKind {
        match inspect(head.as_bytes(), MAX) {
            Head::Refused(refusal) => refusal.kind,
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn valid_heads_are_accepted_with_the_length_of_their_bodies() {
        for (head, body) in [
            ("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n", BodyEnd::after(0)),
            ("GET / HTTP/1.0\r\n\r\n", BodyEnd::after(0)),
            ("GET /a?b=c HTTP/1.1\nhost: [::1]:8000\n\n", BodyEnd::after(0)),
            ("OPTIONS * HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", BodyEnd::after(0)),
            ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", BodyEnd::after(0)),
            ("GET http://a.test/x HTTP/1.1\r\nhost: a.test:80\r\n\r\n", BodyEnd::after(0)),
            ("POST / HTTP/1.1\r\nhost: a:\r\ncontent-length: 7\r\n\r\n", BodyEnd::after(7)),
            (
                "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
                BodyEnd::chunked(),
            ),
        ] {
            let expected = Head::Complete { bytes: head.len(), body };
            assert_eq!(inspect(head.as_bytes(), MAX), expected, "{head}");
            // The following bytes are not part of it.
            assert_eq!(inspect(format!("{head}x").as_bytes(), MAX), expected, "{head}");
            assert!(has_end(head.as_bytes(), 0), "{head}");
            for cut in 1..head.len() {
                assert_eq!(inspect(&head.as_bytes()[..cut], MAX), Head::Partial, "{head} {cut}");
                assert!(!has_end(&head.as_bytes()[..cut], 0), "{head} {cut}");
                assert!(has_end(head.as_bytes(), cut), "{head} {cut}");
            }
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        for head in [
            "hello\r\n\r\n",
            "GET\r\n\r\n",
            " GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/9\r\n\r\n",
            "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nname : value\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
            "GET http://[ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET a/b HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
        ] {
            assert_eq!(refused(head), ProblemKind::Unreadable, "{head:?}");
        }
    }

    #[test]
    fn there_must_be_exactly_one_valid_host() {
        for host in ["", "host: a\r\nHost: a\r\n", "host:\r\n", "host: a b\r\n", "host: a/b\r\n"] {
            let head = format!("GET / HTTP/1.1\r\n{host}\r\n");
            assert_eq!(refused(&head), ProblemKind::Unreadable, "{host:?}");
        }
        for host in ["u@a", "a:b", "a:123456", ":80", "a,b", "[::1", "::1", "a:1:2", "[::1]x", "ü"]
        {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        for host in ["a", "a:1", "a.b-c.test:65535", "127.0.0.1:8000", "[::1]", "[::1]:80", "a_b"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        assert_eq!(
            refused("GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n"),
            ProblemKind::Unreadable
        );
    }

    #[test]
    fn the_length_of_a_body_must_be_given_only_once() {
        for headers in [
            "content-length: 1\r\ncontent-length: 2\r\n",
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: 1, 1\r\n",
            "content-length: +1\r\n",
            "content-length: -1\r\n",
            "content-length: 0x1\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 18446744073709551615\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
            "transfer-encoding: \r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
            assert_eq!(refused(&head), ProblemKind::Unreadable, "{headers:?}");
        }
        assert_eq!(
            refused("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"),
            ProblemKind::Unreadable
        );
    }

    #[test]
    fn sizes_are_bounded() {
        let line = |bytes| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(bytes));
        assert_eq!(refused(&line(TARGET_BYTES_MAX)), ProblemKind::TargetTooLong);
        assert_eq!(refused(&line(2 * MAX)), ProblemKind::TargetTooLong);
        assert!(matches!(
            inspect(line(TARGET_BYTES_MAX - 1).as_bytes(), MAX),
            Head::Complete { .. }
        ));
        let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(MAX));
        assert_eq!(refused(&large), ProblemKind::HeadersTooLarge);
        assert_eq!(refused(&large[..MAX]), ProblemKind::HeadersTooLarge);
        assert_eq!(inspect(&large.as_bytes()[..MAX - 1], MAX), Head::Partial);
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX));
        assert_eq!(refused(&many), ProblemKind::HeadersTooLarge);
    }

    #[test]
    fn a_refusal_has_the_id_of_its_request() {
        let head = "GET / HTTP/1.1\r\nX-Request-Id: order-42\r\n\r\n";
        let Head::Refused(refusal) = inspect(head.as_bytes(), MAX) else { panic!() };
        assert_eq!(refusal.request_id.unwrap(), "order-42");
    }
}
