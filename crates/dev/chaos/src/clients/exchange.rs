//! One request on a connection, its answer, and clients that hang up in between.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_bench::load::answer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::RequestOutcome;

/// Longer than the time limit of the API.
const LIMIT: Duration = Duration::from_secs(40);

/// The size limit of an answer.
const ANSWER_MAX: usize = 1024 * 1024;

/// The moment of a hang-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// After a part of the request was sent.
    InRequest,
    /// After the whole request was sent, and before the answer.
    AfterRequest,
    /// After the beginning of the answer was read.
    InAnswer,
}

impl Moment {
    pub const ALL: [Self; 3] = [Self::InRequest, Self::AfterRequest, Self::InAnswer];

    /// A description.
    pub fn words(self) -> &'static str {
        match self {
            Self::InRequest => "in the request",
            Self::AfterRequest => "after the request",
            Self::InAnswer => "in the answer",
        }
    }
}

/// A planned hang-up.
#[derive(Clone, Copy, Debug)]
pub struct HangUp {
    pub moment: Moment,
    /// The part of the request that is sent (0 to 1), for a hang-up within the request.
    pub part: f64,
    /// The time to wait before it, unless it is within the answer.
    pub wait: Duration,
}

/// The result of a request.
#[derive(Debug)]
pub enum Told {
    /// A whole answer.
    Answer {
        status: u16,
        /// Whether it has `Retry-After`.
        retry_after: bool,
        /// Its body; null if there is none.
        body: Value,
    },
    /// There was no connection: nothing was sent.
    NotConnected,
    /// The request was sent, completely or in part, and there was no answer.
    Nothing,
}

impl Told {
    /// The status and the kind of problem, as text.
    pub fn words(&self) -> String {
        match self {
            Self::NotConnected => "none".to_owned(),
            Self::Nothing => "cut off".to_owned(),
            Self::Answer { status, .. } => format!("{status} {}", self.problem()).trim().to_owned(),
        }
    }

    fn problem(&self) -> &str {
        let Self::Answer { body, .. } = self else { return "" };
        body["type"].as_str().unwrap_or_default().trim_start_matches("/problems/")
    }

    /// The outcome. `declined` are the statuses with which the API may refuse this request.
    pub fn outcome(&self, declined: &[u16]) -> RequestOutcome {
        match self {
            Self::NotConnected => RequestOutcome::Refused,
            Self::Nothing => RequestOutcome::CutOff,
            Self::Answer { status, retry_after, .. } => match status {
                200..300 => RequestOutcome::Accepted,
                503 if *retry_after && self.problem() == "outcome-unknown" => {
                    RequestOutcome::CutOff
                }
                429 | 503 if *retry_after => RequestOutcome::Refused,
                504 if declined.contains(status) => RequestOutcome::CutOff,
                _ if declined.contains(status) => RequestOutcome::Refused,
                _ => RequestOutcome::Wrong,
            },
        }
    }
}

/// A connection that is kept for the next request.
#[derive(Debug)]
pub struct KeptConnection {
    target: SocketAddr,
    stream: Option<TcpStream>,
}

impl KeptConnection {
    /// A connection that is opened when it is needed.
    pub fn new(target: SocketAddr) -> Self {
        Self { target, stream: None }
    }

    /// Sends a request and reads its answer, or hangs up.
    pub async fn send(&mut self, request: &[u8], hang_up: Option<HangUp>) -> Told {
        let kept = self.stream.take();
        let mut stream = match kept {
            Some(stream) => stream,
            None => match TcpStream::connect(self.target).await {
                Ok(stream) if stream.set_nodelay(true).is_ok() => stream,
                _ => return Told::NotConnected,
            },
        };
        let exchange = exchange(&mut stream, request, hang_up);
        // A connection is reused only after a complete answer.
        let Ok(Ok(Some((told, goes_on)))) = tokio::time::timeout(LIMIT, exchange).await else {
            return Told::Nothing;
        };
        self.stream = goes_on.then_some(stream);
        told
    }
}

/// `None` after a hang-up. Otherwise the answer, and whether the connection can be reused.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    hang_up: Option<HangUp>,
) -> io::Result<Option<(Told, bool)>> {
    let moment = hang_up.map(|it| it.moment);
    let sent = match hang_up {
        Some(HangUp { moment: Moment::InRequest, part, .. }) => {
            let share = part * request.len() as f64;
            request.get(..(share as usize).clamp(1, request.len() - 1)).unwrap_or(request)
        }
        _ => request,
    };
    stream.write_all(sent).await?;
    if let Some(HangUp { moment: Moment::InRequest | Moment::AfterRequest, wait, .. }) = hang_up {
        tokio::time::sleep(wait).await;
        return Ok(None);
    }
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > ANSWER_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if moment == Some(Moment::InAnswer) {
            return Ok(None);
        }
        let Some(head) = answer::parse(&bytes).map_err(|_| io::ErrorKind::InvalidData)? else {
            continue;
        };
        let body = bytes.get(head.body).unwrap_or_default();
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        let told = Told::Answer { status: head.status, retry_after: head.retry_after, body };
        return Ok(Some((told, !head.close)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clean_answer_counts_as_a_refusal() {
        let told = |status, retry_after, problem: &str| {
            let body = serde_json::json!({ "type": format!("/problems/{problem}") });
            Told::Answer { status, retry_after, body }
        };
        for (told, expected) in [
            (told(201, false, ""), RequestOutcome::Accepted),
            (told(204, false, ""), RequestOutcome::Accepted),
            (told(503, true, "unavailable"), RequestOutcome::Refused),
            (told(503, true, "outcome-unknown"), RequestOutcome::CutOff),
            (told(503, false, "unavailable"), RequestOutcome::Wrong),
            (told(429, false, "too-many-requests"), RequestOutcome::Wrong),
            (told(409, false, "not-enough-stock"), RequestOutcome::Refused),
            (told(504, true, "timeout"), RequestOutcome::CutOff),
            (told(404, false, "not-found"), RequestOutcome::Wrong),
            (told(500, false, "internal"), RequestOutcome::Wrong),
            (Told::NotConnected, RequestOutcome::Refused),
            (Told::Nothing, RequestOutcome::CutOff),
        ] {
            assert_eq!(told.outcome(&[409, 504]), expected, "{told:?}");
        }
        assert_eq!(told(504, true, "timeout").outcome(&[]), RequestOutcome::Wrong);
    }
}
