//! Receives the whole body of a request, within limits of size and time.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::Instant;

use crate::{
    byte_budget::{BudgetSpent, ByteBudget},
    problem::{Problem, ProblemKind},
};

#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// The largest size, in bytes.
    pub bytes: usize,
    /// The longest time from the end of the headers to the end of the body.
    pub time: Duration,
    /// The lowest average rate, in bytes per second; 0 means no limit.
    pub bytes_per_second: u64,
    /// The budget for incomplete bodies.
    pub budget: &'static ByteBudget,
}

impl BodyLimits {
    /// The deadline for the next bytes of a body of which this many bytes have arrived.
    fn deadline(&self, begun: Instant, received: usize) -> Instant {
        let whole = begun + self.time;
        let earned = (received as u64).saturating_mul(1000).checked_div(self.bytes_per_second);
        earned
            .map_or(whole, |millis| (begun + SLOW_TIME + Duration::from_millis(millis)).min(whole))
    }
}

/// How long a body may be slower than the lowest rate.
const SLOW_TIME: Duration = Duration::from_secs(5);
/// The size up to which a body is not charged to the budget.
const FREE_BYTES: usize = 8 * 1024;
/// The smallest buffer of a body that arrives in pieces.
const PIECES_BYTES: usize = 4 * 1024;

/// How much of a body that is too large is read and discarded before the connection is closed, in multiples of its limit.
/// Otherwise, a client that is still sending would see a reset connection instead of the answer.
const DRAIN_TIMES: usize = 8;
/// The longest time for this.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Reads a whole JSON body.
///
/// # Errors
/// The body has another type, is too large or too slow, or ends early.
pub async fn receive(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Bytes, Problem> {
    let empty = body.size_hint().exact() == Some(0);
    if let Some(problem) = refuse_type(headers, empty) {
        return Err(close_unless_small(problem, &body));
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.bytes {
        return Err(too_large(headers, body, announced, limits).await);
    }
    match collect(body, limits).await {
        Ok(bytes) => Ok(bytes),
        Err(Broken::Transport(error)) => {
            Err(Problem::new(ProblemKind::Unreadable).because(error).and_close())
        }
        Err(Broken::TooLarge(rest)) => Err(too_large(headers, rest, 0, limits).await),
        Err(Broken::TooSlow) => Err(Problem::new(ProblemKind::SlowRequest).and_close()),
        Err(Broken::NoMemory(spent)) => {
            Err(Problem::new(ProblemKind::Overloaded).because(spent).and_close())
        }
    }
}

enum Broken {
    Transport(axum::Error),
    /// Too large; with the rest that has not been read yet.
    TooLarge(Body),
    TooSlow,
    /// The budget has no room.
    NoMemory(BudgetSpent),
}

async fn collect(mut body: Body, limits: BodyLimits) -> Result<Bytes, Broken> {
    let begun = Instant::now();
    let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut charge = limits.budget.charge();
    loop {
        let deadline = limits.deadline(begun, first.len() + all.len());
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(Broken::Transport)?,
            Ok(None) => break,
            Err(_elapsed) => return Err(Broken::TooSlow),
        };
        let Ok(data) = frame.into_data() else { continue };
        let sum = first.len() + all.len() + data.len();
        if sum > limits.bytes {
            return Err(Broken::TooLarge(body));
        }
        if first.is_empty() && all.is_empty() {
            // Most bodies are one frame, which needs no copy.
            first = data;
            if body.is_end_stream() {
                return Ok(first);
            }
        } else {
            if all.capacity() < sum {
                // Doubled each time, so that the bytes are copied only a few times.
                let most = announced.unwrap_or(limits.bytes).max(sum);
                let wanted = sum.max(2 * all.capacity()).max(PIECES_BYTES).min(most);
                charge.resize(wanted.saturating_sub(FREE_BYTES)).map_err(Broken::NoMemory)?;
                all.reserve(wanted - all.len());
            }
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { charge.held_by(all.freeze()) })
}

async fn too_large(
    headers: &HeaderMap,
    mut body: Body,
    announced: usize,
    limits: BodyLimits,
) -> Problem {
    let problem = Problem::with_detail(
        ProblemKind::BodyTooLarge,
        format!("The body must have at most {} bytes.", limits.bytes),
    )
    .and_close();
    // A client that waits for `100 Continue` has sent nothing, and reading would make it send the body.
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

/// The content type must be JSON. Browsers send bodies of other types, or without a type, for pages of any site without
/// a preflight request.
fn refuse_type(headers: &HeaderMap, empty: bool) -> Option<Problem> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Some(Problem::new(ProblemKind::UnsupportedMediaType));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let json = match (types.next(), types.next()) {
        (None, _) => empty,
        (Some(one), None) => is_json(one.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    (!json).then(|| Problem::new(ProblemKind::UnsupportedMediaType))
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/json")
        || essence.eq_ignore_ascii_case(b"text/json")
        || (essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json"))
}

/// A small unread body is read by the server, so that the connection can be kept.
fn close_unless_small(problem: Problem, body: &Body) -> Problem {
    match body.size_hint().exact() {
        Some(0) => problem,
        _ => problem.and_close(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_headers() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json".parse().unwrap())])
    }

    fn limits() -> BodyLimits {
        BodyLimits {
            bytes: 1 << 20,
            time: Duration::from_mins(1),
            bytes_per_second: 1000,
            budget: ByteBudget::leak(1 << 20),
        }
    }

    /// A body of several frames of this size, one per second.
    fn dripping(frames: usize, bytes: usize) -> Body {
        let frames = futures::stream::iter(0..frames);
        Body::from_stream(futures::StreamExt::then(frames, move |_| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes]))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_arrive_at_a_minimum_rate() {
        let headers = json_headers();
        let begun = Instant::now();
        let problem = receive(&headers, dripping(1000, 1), limits()).await.unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::SlowRequest);
        assert_eq!(begun.elapsed().as_secs(), 5, "one byte per second is too slow");
        let body = receive(&headers, dripping(20, 1000), limits()).await.unwrap();
        assert_eq!(body.len(), 20_000);
        let begun = Instant::now();
        let problem = receive(&headers, dripping(1000, 1001), limits()).await.unwrap_err();
        assert_eq!((problem.kind(), begun.elapsed().as_secs()), (ProblemKind::SlowRequest, 60));
    }

    #[tokio::test]
    async fn bodies_in_pieces_are_charged_until_they_are_dropped() {
        let pieces = |bytes: usize| {
            let piece = |_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1000]));
            Body::from_stream(futures::stream::iter((0..bytes / 1000).map(piece)))
        };
        let budget = ByteBudget::leak(200_000);
        let limits = BodyLimits { budget, ..limits() };
        let headers = json_headers();
        let large = receive(&headers, pieces(90_000), limits).await.unwrap();
        assert!((80_000..=140_000).contains(&budget.used()), "{}", budget.used());
        let problem = receive(&headers, pieces(90_000), limits).await.unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::Overloaded);
        let small = receive(&headers, pieces(8_000), limits).await.unwrap();
        assert_eq!(small.len(), 8_000, "a small body is not charged");
        drop(large);
        assert_eq!(budget.used(), 0);
        assert!(receive(&headers, pieces(90_000), limits).await.is_ok());
    }

    fn json(content_type: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        refuse_type(&headers, false).is_none()
    }

    #[test]
    fn every_content_type_of_json_is_accepted() {
        for content_type in
            ["application/json", "Application/JSON; charset=utf-8", "application/vnd.shop+json"]
        {
            assert!(json(content_type), "{content_type}");
        }
        assert!(refuse_type(&HeaderMap::new(), true).is_none());
    }

    #[test]
    fn other_content_types_and_none_are_refused() {
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "+json",
            "",
            ";",
        ] {
            assert!(!json(content_type), "{content_type}");
        }
        assert!(refuse_type(&HeaderMap::new(), false).is_some());
        let mut two = HeaderMap::new();
        for content_type in ["application/json", "text/plain"] {
            two.append(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        assert!(refuse_type(&two, false).is_some());
    }

    #[tokio::test]
    async fn a_body_in_many_frames_is_assembled_within_its_limit() {
        let frames = || {
            let frames = ["{\"a\"", ":", "1}"].map(Ok::<_, std::io::Error>);
            Body::from_stream(futures::stream::iter(frames))
        };
        let limits = |bytes| BodyLimits { bytes, ..limits() };
        let headers = json_headers();
        assert_eq!(receive(&headers, frames(), limits(7)).await.unwrap(), "{\"a\":1}");
        let problem = receive(&headers, frames(), limits(6)).await.unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::BodyTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_times_out() {
        let endless =
            Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let problem = receive(&json_headers(), endless, limits()).await.unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::SlowRequest);
    }
}
