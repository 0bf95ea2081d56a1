//! Parsing answers, only as far as the load generator and the clients of the chaos run need.

use std::ops::Range;

/// The most headers of an answer.
const HEADERS_MAX: usize = 32;

/// An answer with this status has neither a body nor a length.
const NO_CONTENT: u16 = 204;

/// A complete answer in a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct BufferedAnswer {
    /// The status code.
    pub status: u16,
    /// The position of the body.
    pub body: Range<usize>,
    /// Whether the server closes the connection after it.
    pub close: bool,
    /// Whether it has `Retry-After`.
    pub retry_after: bool,
}

/// The bytes are not a valid answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbled;

/// Looks for a complete answer at the start of `bytes`; `None` if it is not complete yet.
///
/// # Errors
/// The bytes are not a valid answer of Holdfast.
pub fn parse(bytes: &[u8]) -> Result<Option<BufferedAnswer>, Garbled> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let head_length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Garbled),
    };
    let mut body_length = None;
    let mut answer = BufferedAnswer {
        status: head.code.ok_or(Garbled)?,
        body: head_length..head_length,
        close: false,
        retry_after: false,
    };
    if answer.status == NO_CONTENT {
        body_length = Some(0);
    }
    for header in head.headers {
        // Comparing the length of the name skips most other headers quickly.
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                body_length = Some(decimal(header.value).ok_or(Garbled)?.1);
            }
            11 if header.name.eq_ignore_ascii_case("retry-after") => answer.retry_after = true,
            10 if header.name.eq_ignore_ascii_case("connection") => {
                answer.close = header.value.eq_ignore_ascii_case(b"close");
            }
            // Holdfast always sends a length. A chunked answer is an error.
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => return Err(Garbled),
            _ => {}
        }
    }
    let body_length = usize::try_from(body_length.ok_or(Garbled)?).map_err(|_| Garbled)?;
    answer.body.end = head_length.checked_add(body_length).ok_or(Garbled)?;
    Ok((bytes.len() >= answer.body.end).then_some(answer))
}

/// The order id in the JSON body of a 201: the number after the first `"id":`.
pub(super) fn order_id(body: &[u8]) -> Option<i64> {
    const KEY: &[u8] = b"\"id\":";
    let at = body.windows(KEY.len()).position(|window| window == KEY)?;
    let rest = body.get(at + KEY.len()..)?;
    let rest = rest.trim_ascii_start();
    let (digits, value) = decimal(rest)?;
    (digits > 0).then_some(value)
}

/// Whether an answer leaves open if the order exists: 504, or a 503 of the type `outcome-unknown`.
pub(super) fn is_outcome_unknown(status: u16, body: &[u8]) -> bool {
    const KIND: &[u8] = b"/problems/outcome-unknown";
    status == 504 || status == 503 && body.windows(KIND.len()).any(|window| window == KIND)
}

/// Leading digits: their number and value.
fn decimal(bytes: &[u8]) -> Option<(usize, i64)> {
    let mut value = 0_i64;
    let mut digits = 0;
    for byte in bytes.iter().take_while(|byte| byte.is_ascii_digit()) {
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
        digits += 1;
    }
    (digits > 0).then_some((digits, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nContent-Length: 23\r\n\r\n{\"id\":123,\"quantity\":1}";

    #[test]
    fn a_whole_answer_is_parsed_and_no_part_of_it() {
        let answer = parse(ORDER).unwrap().unwrap();
        assert_eq!((answer.status, answer.close, answer.retry_after), (201, false, false));
        assert_eq!(order_id(&ORDER[answer.body.clone()]), Some(123));
        assert_eq!(answer.body.end, ORDER.len());
        for end in 0..ORDER.len() {
            assert_eq!(parse(&ORDER[..end]), Ok(None), "{end} bytes");
        }
    }

    #[test]
    fn the_second_answer_in_the_buffer_is_left_alone() {
        let two = [ORDER, ORDER].concat();
        assert_eq!(parse(&two).unwrap().unwrap().body.end, ORDER.len());
    }

    #[test]
    fn an_answer_without_content_has_no_length() {
        let answer = parse(b"HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n").unwrap().unwrap();
        assert_eq!((answer.status, answer.body.is_empty()), (204, true));
    }

    #[test]
    fn retry_after_and_connection_close_are_read() {
        let full = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let answer = parse(full).unwrap().unwrap();
        assert_eq!((answer.status, answer.close, answer.retry_after), (503, true, true));
        assert!(answer.body.is_empty());
    }

    #[test]
    fn chunks_unknown_lengths_and_invalid_bytes_are_rejected() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
        ] {
            assert_eq!(parse(bytes), Err(Garbled), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_id_is_a_number() {
        assert_eq!(order_id(b"{\"quantity\":1, \"id\": 7}"), Some(7));
        assert_eq!(order_id(b"{\"id\":\"7\"}"), None);
        assert_eq!(order_id(b"{\"product_id\":7}"), None);
        assert_eq!(order_id(b"{}"), None);
    }
}
