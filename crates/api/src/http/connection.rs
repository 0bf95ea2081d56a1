//! One connection.
//!
//! | file | subject |
//! |---|---|
//! | `client_stream` | the bytes between a client and hyper |
//! | `request_head` | whether the head of a request may be served |
//! | `body_end` | finds the end of a body |
//! | `request_charge` | the charge for the memory of a request |
//! | `state` | the event that a connection waits for, and the time limits |

mod body_end;
mod client_stream;
mod request_charge;
mod request_head;
mod state;

use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

use self::{
    client_stream::ClientStream,
    request_head::{Head, has_end, inspect},
    state::ConnectionPhase,
};
use super::{Peer, Service};
use crate::{byte_budget::ByteBudget, problem::ProblemKind};

pub use self::state::Patience;
pub(super) use self::state::{ClientWait, ConnectionState};

/// The most bytes that are read after the last answer. If a socket is closed with unread bytes, the connection is reset
/// and the client may not receive the answer.
const LINGER_BYTES: usize = 256 * 1024;
/// The longest time for this.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// The longest time for sending a refusal.
const REFUSE_TIME: Duration = Duration::from_secs(2);
/// hyper's smallest buffer.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// The shared state of the connections of a port.
pub(super) struct Connecting {
    pub http: http1::Builder,
    pub service: Arc<Service>,
    pub patience: Patience,
    /// The largest head of a request.
    pub head_bytes: usize,
    /// The budget for read bytes.
    pub budget: &'static ByteBudget,
    /// Permits for lingering connections. During a flood, the others are reset.
    pub lingering: Semaphore,
}

impl Connecting {
    /// hyper, with the smallest sufficient buffers.
    pub fn http(head_bytes: usize) -> http1::Builder {
        let mut http = http1::Builder::new();
        // hyper gets complete heads, and their time limit is checked before.
        http.max_buf_size(head_bytes.max(BUFFER_BYTES_MIN) + BUFFER_BYTES_MIN);
        http
    }

    /// Serves a connection until it ends. Returns it if it has to [`linger`](Self::linger).
    pub async fn serve(
        &self,
        socket: TcpStream,
        client: Peer,
        state: &Arc<ConnectionState>,
    ) -> Option<TcpStream> {
        let stream = ClientStream::new(socket, Arc::clone(state), self.head_bytes, self.budget);
        let shared = Arc::new((Arc::clone(&self.service), Arc::clone(state), client));
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            async move {
                let (service, state, client) = &*shared;
                let answer = service.answer(request.map(Body::new), client).await;
                state.enter(ConnectionPhase::Answered);
                answer
            }
        });
        let reset = {
            let connection = pin!(self.http.serve_connection(stream, service));
            self.drive(connection, state).await
        };
        let socket = state.take_stream()?;
        if reset {
            // An answer that the client does not read must not stay in the kernel.
            let _ = socket.set_zero_linger();
            return None;
        }
        self.part(socket, state).await
    }

    /// Drives a connection until it ends or a time limit of its client is exceeded. Returns whether it must be reset.
    async fn drive<S>(
        &self,
        mut connection: std::pin::Pin<&mut http1::Connection<ClientStream, S>>,
        state: &ConnectionState,
    ) -> bool
    where
        S: hyper::service::HttpService<Incoming, ResBody = Body>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut told = false;
        let mut clock = pin!(sleep_until(Instant::now() + self.patience.idle));
        poll_fn(move |context| {
            state.wake(context.waker());
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    // The client disconnected or did not send HTTP.
                    if let Err(error) = ended {
                        tracing::trace!(%error, "a connection ended early");
                    }
                    return Poll::Ready(false);
                }
                // Between requests and within a head, the stream ends the connection.
                let in_request =
                    !matches!(state.phase(), ConnectionPhase::Idle | ConnectionPhase::Head);
                if !state.is_evicted() {
                    state.stay();
                } else if state.is_stalled() {
                    return Poll::Ready(true);
                } else if in_request {
                    // Nothing is changed before the body has arrived.
                    state.refuse_for(ProblemKind::Overloaded);
                    return Poll::Ready(false);
                }
                if state.phase() == ConnectionPhase::Body && state.is_refused() {
                    // The budget has no room for the body.
                    return Poll::Ready(false);
                }
                if state.is_ending() && in_request && !told {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                // The timer is only moved forward here. It is postponed when it fires, not with each request.
                let deadline = state.deadline(&self.patience);
                if let Some(deadline) = deadline
                    && deadline < clock.deadline()
                {
                    clock.as_mut().reset(deadline);
                }
                if clock.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let now = Instant::now();
                match deadline {
                    Some(deadline) if deadline > now => clock.as_mut().reset(deadline),
                    None => clock.as_mut().reset(now + self.patience.idle),
                    Some(_) if state.is_stalled() => return Poll::Ready(true),
                    Some(_) => {
                        if state.phase() == ConnectionPhase::Head {
                            state.refuse(request_head::RefusedHead::new(
                                ProblemKind::SlowRequest,
                                "The headers did not arrive in time.",
                            ));
                        }
                        state.end();
                        clock.as_mut().reset(now + self.patience.idle);
                    }
                }
            }
        })
        .await
    }

    /// Sends the remaining bytes and closes our side of the connection.
    async fn part(&self, mut socket: TcpStream, state: &ConnectionState) -> Option<TcpStream> {
        let refusal = state.take_refusal();
        let unread = refusal.is_some() || state.phase() != ConnectionPhase::Idle;
        // It is about to end, so it cannot be closed any sooner.
        state.enter(ConnectionPhase::Answered);
        if let Some(refusal) = refusal {
            let answer = self.service.refusal(refusal.kind, refusal.detail, refusal.request_id);
            if !matches!(timeout(REFUSE_TIME, socket.write_all(&answer)).await, Ok(Ok(()))) {
                return None;
            }
        }
        let closed = socket.shutdown().await.is_ok();
        (closed && unread && !state.is_client_closed()).then_some(socket)
    }

    /// Gives the client time to read the last answer.
    pub async fn linger(&self, mut socket: TcpStream) {
        if let Ok(_lingering) = self.lingering.try_acquire() {
            let _ = timeout(LINGER_TIME, read_away(&mut socket)).await;
        }
    }
}

/// Refuses a connection with an answer, after its client has begun to send, because most clients ignore an earlier
/// answer.
pub(super) async fn turn_away(mut socket: TcpStream, answer: &[u8]) {
    let _ = timeout(REFUSE_TIME, async {
        socket.readable().await?;
        socket.write_all(answer).await?;
        socket.shutdown().await?;
        read_away(&mut socket).await
    })
    .await;
}

/// Parses bytes as the beginning of a connection, in one piece and byte by byte. For tests.
#[allow(clippy::panic)] // a fuzz target calls it
pub(crate) fn read_request(bytes: &[u8]) {
    const HEAD_BYTES: usize = 16 * 1024;
    let Head::Complete { bytes: head, body } = inspect(bytes, HEAD_BYTES) else { return };
    assert!(has_end(&bytes[..head], 0), "the end of a head was not found");
    assert!(!matches!(inspect(&bytes[..head - 1], HEAD_BYTES), Head::Complete { .. }));
    let rest = &bytes[head..];
    let (mut at_once, mut in_parts) = (body, body);
    let taken = at_once.pass(rest);
    let mut passed = Ok(0);
    for byte in rest.chunks(1) {
        if in_parts.is_reached() {
            break;
        }
        passed = passed.and_then(|before| Ok(before + in_parts.pass(byte)?));
    }
    assert_eq!(taken, passed, "the end of a body depends on how it is split");
}

async fn read_away(socket: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 2048];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match socket.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// An answer in its HTTP/1.1 form, without hyper.
pub(super) fn wire(status: StatusCode, headers: &axum::http::HeaderMap, body: &[u8]) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
