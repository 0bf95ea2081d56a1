//! What a receiver's answer means for the order, and for whether more are sent.
//!
//! | answer | the order | taken by this try | the receiver |
//! |---|---|---|---|
//! | 2xx | completed | yes | well |
//! | 409, 425 | is tried again | perhaps | well |
//! | 5xx, 408, 3xx | is tried again | perhaps | unwell |
//! | 429 | is tried again | no | unwell |
//! | 401, 403, 404, 405, 407, 421 | is tried again | no | unwell: these are about the address and the secret, not about one order |
//! | any other 4xx, 410 among them | has failed | no | well: it has looked at this very order |
//! | none, or nonsense | is tried again | perhaps, if it was sent | unwell |
//!
//! The status alone decides. A body is read for the message of a failure only, and never further than
//! that takes.

use std::time::{Duration, SystemTime};

use holdfast_store::fulfilment::Taken;
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use tokio::time::Instant;

use crate::FulfilError;

/// The most of a good answer's body that is read, so that its connection can be used again.
const DRAINED_BYTES: usize = 16 * 1024;
/// The most of a bad answer's body that is read.
const EXCERPT_BYTES: usize = 2 * 1024;
/// The most of it, and of a header, that is shown.
const EXCERPT_CHARS: usize = 200;
/// The longest that a body is waited for.
const BODY_TIME: Duration = Duration::from_secs(1);

/// What an answer, or the lack of one, tells about the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It takes orders.
    Well,
    /// It does not; with how long it wants to be left alone, if it said so.
    Unwell(Option<Duration>),
}

/// Whether a receiver that answers so may have taken the order, by what `docs/webhooks.md` defines.
pub(super) fn taken(status: StatusCode) -> Taken {
    match status.as_u16() {
        408 | 409 | 425 => Taken::Maybe,
        400..=499 => Taken::Never,
        _ => Taken::Maybe,
    }
}

/// Judges by the status and the headers; `excerpt` is the beginning of the body.
pub(super) fn judge(
    answer: &Parts,
    excerpt: &str,
    now: SystemTime,
) -> (Condition, Result<(), FulfilError>) {
    let status = answer.status;
    if status.is_success() {
        return (Condition::Well, Ok(()));
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
        409 | 425 => Condition::Well,
        401 | 403 | 404 | 405 | 407 | 408 | 421 | 429 => Condition::Unwell(after),
        400..=499 => return (Condition::Well, Err(FulfilError::Fail(reason))),
        _ => Condition::Unwell(after),
    };
    (condition, Err(FulfilError::Unavailable { reason, after }))
}

/// Reads as much of a body as is worth it; for a failure, gives its beginning. One that breaks off,
/// comes too slowly or never ends changes nothing. It is not waited for beyond `deadline`.
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
            // An empty frame must not make it endless.
            seen += data.len().max(1);
        }
    };
    // What was read in time is shown.
    let _ = tokio::time::timeout_at(deadline.min(Instant::now() + BODY_TIME), reading).await;
    readable(&beginning)
}

/// Somebody else's bytes, as part of a line of text.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let text: String = plain.take(EXCERPT_CHARS).collect();
    text.trim().to_owned()
}

/// The header `Retry-After`, in seconds or as a date; what is neither is ignored.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // More digits than fit is a long time.
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

    fn judged(status: u16, headers: &[(&str, &str)]) -> (Condition, Result<(), FulfilError>) {
        judge(&parts(status, headers), "so sorry", SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn statuses_mean_what_the_table_says() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judged(status, &[]), (Condition::Well, Ok(())), "{status}");
        }
        for status in [400, 402, 406, 410, 411, 413, 415, 418, 422, 426, 451, 499] {
            let (condition, outcome) = judged(status, &[]);
            assert_eq!(condition, Condition::Well, "{status}");
            assert!(matches!(outcome, Err(FulfilError::Fail(_))), "{status}");
        }
        for status in [
            300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405, 407, 408, 421, 429, 500, 502,
            503, 504, 599, 600, 999,
        ] {
            let (condition, outcome) = judged(status, &[]);
            assert_eq!(condition, Condition::Unwell(None), "{status}");
            assert!(matches!(outcome, Err(FulfilError::Unavailable { .. })), "{status}");
        }
        for status in [409, 425] {
            let (condition, outcome) = judged(status, &[]);
            assert_eq!(condition, Condition::Well, "{status}");
            assert!(matches!(outcome, Err(FulfilError::Unavailable { .. })), "{status}");
        }
    }

    #[test]
    fn only_a_refusal_says_that_the_order_was_not_taken() {
        for status in 100..=999 {
            let refused = (400..500).contains(&status) && ![408, 409, 425].contains(&status);
            let taken = taken(StatusCode::from_u16(status).unwrap());
            assert_eq!(taken == Taken::Never, refused, "{status}");
        }
    }

    #[test]
    fn a_failure_says_what_was_answered() {
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
            let expected = Condition::Unwell(Some(Duration::from_secs(seconds)));
            assert_eq!(after(text), expected, "{text}");
        }
        for text in ["", "-1", "soon", "1.5", "0x10"] {
            assert_eq!(after(text), Condition::Unwell(None), "{text}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(readable(b" a\r\nb\0\x1b[31m\xff "), "a  b  [31m\u{fffd}");
        assert_eq!(readable(&[b'x'; 5000]).len(), EXCERPT_CHARS);
    }
}
