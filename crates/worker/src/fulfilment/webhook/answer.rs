//! What a receiver's answer means for the order and for the receiver.
//!
//! | answer | the order | this attempt had an effect | the receiver |
//! |---|---|---|---|
//! | 2xx | is completed | yes | up |
//! | 409, 425 | is tried again | perhaps | up |
//! | 5xx, 408, 3xx | is tried again | perhaps | down |
//! | 429 | is tried again | no | down |
//! | 401, 403, 404, 405, 407, 421 | is tried again | no | down: these concern the address and the secret, not one order |
//! | any other 4xx, including 410 | has failed | no | up: it refused this order |
//! | none, or not HTTP | is tried again | perhaps, if it was sent | down |
//!
//! Only the status decides. The body is read for the failure message only, and only as much as that needs.

use std::time::{Duration, SystemTime};

use holdfast_store::fulfilment::Taken;
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use tokio::time::Instant;

use crate::FulfilError;

/// How much is read of the body of a success, so that the connection can be reused.
const DRAINED_BYTES: usize = 16 * 1024;
/// How much is read of the body of a failure.
const EXCERPT_BYTES: usize = 2 * 1024;
/// How much is shown of that, or of a header.
const EXCERPT_CHARS: usize = 200;
/// How long reading a body may take.
const BODY_TIME: Duration = Duration::from_secs(1);

/// What an answer, or its absence, shows about the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiverCondition {
    Up,
    /// With the time after which it wants the next request, if it asked for one.
    Down(Option<Duration>),
    /// It got nothing of the order, so the failure has nothing to do with that order.
    Unreachable,
}

/// Whether an attempt with this answer may have taken effect, as `docs/webhooks.md` defines.
pub(super) fn taken(status: StatusCode) -> Taken {
    match status.as_u16() {
        408 | 409 | 425 => Taken::Maybe,
        400..=499 => Taken::Never,
        _ => Taken::Maybe,
    }
}

/// Interprets the status and the headers; `excerpt` is the beginning of the body.
pub(super) fn interpret(
    answer: &Parts,
    excerpt: &str,
    now: SystemTime,
) -> (ReceiverCondition, Result<(), FulfilError>) {
    let status = answer.status;
    if status.is_success() {
        return (ReceiverCondition::Up, Ok(()));
    }
    let after = retry_after(&answer.headers, now);
    let mut reason = format!("the receiver answered {status}");
    if status.is_redirection() {
        reason = format!("{reason}, and redirects are not followed");
        if let Some(to) = answer.headers.get(header::LOCATION) {
            reason = format!("{reason}: {}", readable(to.as_bytes()));
        }
    } else if !excerpt.is_empty() {
        reason = format!("{reason}: {excerpt}");
    }
    let condition = match status.as_u16() {
        409 | 425 => ReceiverCondition::Up,
        // The receiver asks for a pause, of any length.
        429 => ReceiverCondition::Down(Some(after.unwrap_or_default())),
        401 | 403 | 404 | 405 | 407 | 408 | 421 => ReceiverCondition::Down(after),
        400..=499 => return (ReceiverCondition::Up, Err(FulfilError::Fail(reason))),
        _ => ReceiverCondition::Down(after),
    };
    (condition, Err(FulfilError::Unavailable { reason, after }))
}

/// Reads a limited part of a body, until `deadline` at most, and returns its beginning. A body that breaks off or is
/// too slow is not an error.
pub(super) async fn read<B>(status: StatusCode, mut body: B, deadline: Instant) -> String
where
    B: Body<Data = Bytes> + Unpin,
{
    let max = if status.is_success() { DRAINED_BYTES } else { EXCERPT_BYTES };
    let mut beginning = Vec::new();
    let reading = async {
        let mut seen = 0;
        while seen < max
            && let Some(Ok(frame)) = body.frame().await
        {
            let Some(data) = frame.data_ref() else { continue };
            let kept = data.len().min(EXCERPT_BYTES.saturating_sub(beginning.len()));
            beginning.extend_from_slice(&data[..kept]);
            // Empty frames count too, so that the loop ends.
            seen += data.len().max(1);
        }
    };
    // What was read in time is shown.
    let _ = tokio::time::timeout_at(deadline.min(Instant::now() + BODY_TIME), reading).await;
    readable(&beginning)
}

/// Untrusted bytes as part of a line of text.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let text: String = plain.take(EXCERPT_CHARS).collect();
    text.trim().to_owned()
}

/// The header `Retry-After`, in seconds or as a date. Other values are ignored.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // More digits than fit in a u64.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(status: u16, headers: &[(&str, &str)]) -> Parts {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    fn judged(
        status: u16,
        headers: &[(&str, &str)],
    ) -> (ReceiverCondition, Result<(), FulfilError>) {
        interpret(&parts(status, headers), "so sorry", SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn statuses_are_interpreted_as_documented() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judged(status, &[]), (ReceiverCondition::Up, Ok(())), "{status}");
        }
        for status in [400, 402, 406, 410, 411, 413, 415, 418, 422, 426, 451, 499] {
            let (condition, outcome) = judged(status, &[]);
            assert_eq!(condition, ReceiverCondition::Up, "{status}");
            assert!(matches!(outcome, Err(FulfilError::Fail(_))), "{status}");
        }
        for status in [
            300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405, 407, 408, 421, 500, 502, 503,
            504, 599, 600, 999,
        ] {
            let (condition, outcome) = judged(status, &[]);
            assert_eq!(condition, ReceiverCondition::Down(None), "{status}");
            assert!(matches!(outcome, Err(FulfilError::Unavailable { .. })), "{status}");
        }
        let (condition, outcome) = judged(429, &[]);
        assert_eq!(condition, ReceiverCondition::Down(Some(Duration::ZERO)));
        assert!(matches!(outcome, Err(FulfilError::Unavailable { after: None, .. })));
        for status in [409, 425] {
            let (condition, outcome) = judged(status, &[]);
            assert_eq!(condition, ReceiverCondition::Up, "{status}");
            assert!(matches!(outcome, Err(FulfilError::Unavailable { .. })), "{status}");
        }
    }

    #[test]
    fn only_a_refusal_means_that_the_order_was_not_accepted() {
        for status in 100..=999 {
            let refused = (400..500).contains(&status) && ![408, 409, 425].contains(&status);
            let taken = taken(StatusCode::from_u16(status).unwrap());
            assert_eq!(taken == Taken::Never, refused, "{status}");
        }
    }

    #[test]
    fn a_failure_contains_the_answer() {
        let reason = |status, headers: &[_]| judged(status, headers).1.unwrap_err().to_string();
        assert_eq!(reason(500, &[]), "the receiver answered 500 Internal Server Error: so sorry");
        assert_eq!(
            reason(302, &[("location", "https://elsewhere/\u{e9}")]),
            "the receiver answered 302 Found, and redirects are not followed: https://elsewhere/é"
        );
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let after = |text| judged(503, &[("retry-after", text)]).0;
        for (text, seconds) in [
            ("7", 7),
            (" 0 ", 0),
            ("99999999999999999999999", u64::from(u32::MAX)),
            ("Thu, 01 Jan 1970 00:01:00 GMT", 60),
        ] {
            let expected = ReceiverCondition::Down(Some(Duration::from_secs(seconds)));
            assert_eq!(after(text), expected, "{text}");
        }
        for text in ["", "-1", "soon", "1.5", "0x10"] {
            assert_eq!(after(text), ReceiverCondition::Down(None), "{text}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(readable(b" a\r\nb\0\x1b[31m\xff "), "a  b  [31m\u{fffd}");
        assert_eq!(readable(&[b'x'; 5000]).len(), EXCERPT_CHARS);
    }
}
