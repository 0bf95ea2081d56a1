//! A request's body, whole, within limits of size and time.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::Instant;

use crate::problem::{Kind, Problem};

/// How large a body may be, and how long it may take to arrive.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// In bytes.
    pub bytes: usize,
    /// From the end of the headers to the end of the body.
    pub time: Duration,
}

/// How much of a body that is too large is read and thrown away, in multiples of its limit, before
/// the connection is closed. A client that is still sending sees a reset connection otherwise, and
/// not the answer.
const DRAIN_TIMES: usize = 8;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Reads a JSON body to its end.
///
/// # Errors
/// A body of another type, one that is too large, too slow or broken off.
pub async fn receive(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Bytes, Problem> {
    if let Some(problem) = refuse_type(headers) {
        return Err(close_unless_small(problem, &body));
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.bytes {
        return Err(too_large(headers, body, announced, limits).await);
    }
    match tokio::time::timeout(limits.time, collect(body, limits.bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::Transport(error))) => {
            Err(Problem::new(Kind::Unreadable).because(error).and_close())
        }
        Ok(Err(Broken::TooLarge(rest))) => Err(too_large(headers, rest, 0, limits).await),
        Err(_elapsed) => Err(Problem::new(Kind::SlowRequest).and_close()),
    }
}

enum Broken {
    Transport(axum::Error),
    /// With what has not been read yet.
    TooLarge(Body),
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Broken> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Broken::Transport)?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(Broken::TooLarge(body));
        }
        if first.is_empty() && all.is_empty() {
            // Nearly every body is one frame, which needs no copy.
            first = data;
            if body.is_end_stream() {
                return Ok(first);
            }
        } else {
            if all.is_empty() {
                all.reserve(first.len() + data.len());
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

async fn too_large(
    headers: &HeaderMap,
    mut body: Body,
    announced: usize,
    limits: BodyLimits,
) -> Problem {
    let problem = Problem::with_detail(
        Kind::BodyTooLarge,
        format!("The body must be at most {} bytes long.", limits.bytes),
    )
    .and_close();
    // A client that waits for `100 Continue` has sent nothing, and reading would invite it to.
    let most = limits.bytes.saturating_mul(DRAIN_TIMES);
    if announced > most || headers.contains_key(header::EXPECT) {
        return problem;
    }
    let end = Instant::now() + DRAIN_TIME;
    let mut left = most;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(end, body.frame()).await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    problem
}

/// A type that is clearly not JSON is refused; none at all is taken for JSON.
fn refuse_type(headers: &HeaderMap) -> Option<Problem> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Some(Problem::new(Kind::UnsupportedMediaType));
    }
    let given = headers.get(header::CONTENT_TYPE)?;
    let essence = given.as_bytes().split(|byte| *byte == b';').next()?.trim_ascii();
    let json = essence.is_empty()
        || essence.eq_ignore_ascii_case(b"application/json")
        || essence.eq_ignore_ascii_case(b"text/json")
        || (essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json"));
    (!json).then(|| Problem::new(Kind::UnsupportedMediaType))
}

/// An unread body that is small is read by the server itself, and the connection goes on.
fn close_unless_small(problem: Problem, body: &Body) -> Problem {
    match body.size_hint().exact() {
        Some(0) => problem,
        _ => problem.and_close(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(content_type: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        refuse_type(&headers).is_none()
    }

    #[test]
    fn json_by_any_of_its_names_is_taken() {
        for content_type in
            ["application/json", "Application/JSON; charset=utf-8", "application/vnd.shop+json", ""]
        {
            assert!(json(content_type), "{content_type}");
        }
        assert!(refuse_type(&HeaderMap::new()).is_none());
    }

    #[test]
    fn other_types_are_refused() {
        for content_type in
            ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "+json"]
        {
            assert!(!json(content_type), "{content_type}");
        }
    }

    #[tokio::test]
    async fn a_body_in_many_frames_is_put_together_within_its_limit() {
        let frames = || {
            let frames = ["{\"a\"", ":", "1}"].map(Ok::<_, std::io::Error>);
            Body::from_stream(futures::stream::iter(frames))
        };
        let limits = |bytes| BodyLimits { bytes, time: Duration::from_secs(5) };
        let headers = HeaderMap::new();
        assert_eq!(receive(&headers, frames(), limits(7)).await.unwrap(), "{\"a\":1}");
        let problem = receive(&headers, frames(), limits(6)).await.unwrap_err();
        assert_eq!(problem.kind(), Kind::BodyTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let endless =
            Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let limits = BodyLimits { bytes: 10, time: Duration::from_secs(5) };
        let problem = receive(&HeaderMap::new(), endless, limits).await.unwrap_err();
        assert_eq!(problem.kind(), Kind::SlowRequest);
    }
}
