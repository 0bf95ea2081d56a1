//! The bytes between a client and hyper.
//!
//! hyper gets only complete and valid heads, one after another, each after the previous answer has been written. A refused
//! request never reaches hyper: it sees the end of the stream, and the connection's task writes the problem.

mod write;

use std::{
    cell::RefCell,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBufCursor};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};

use super::{
    body_end::BodyEnd,
    request_charge::RequestCharge,
    request_head::{Head, RefusedHead, has_end, inspect},
    state::{ConnectionPhase, ConnectionState},
};
use crate::{
    byte_budget::{BudgetSpent, ByteBudget},
    problem::ProblemKind,
};

/// The size of one read.
const READ_BYTES: usize = 16 * 1024;
/// The answer on an idle connection that is closed to make room. The next request may already be on its way.
const MADE_ROOM: &str = "The connection was idle, and was closed to make room for others. A request that was sent on it \
                         meanwhile was not processed, and can be sent again.";

thread_local! {
    /// The shared read buffer, so that an idle connection needs no buffer of its own.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

pub(super) struct ClientStream {
    /// `None` after an error.
    socket: Option<TcpStream>,
    state: Arc<ConnectionState>,
    head_bytes_max: usize,
    /// Bytes that have been read and not passed to hyper.
    held: Vec<u8>,
    charge: RequestCharge,
    /// The number of these bytes that are ready for hyper.
    approved: usize,
    /// The number of these bytes that contain no complete head.
    seen: usize,
    /// The rest of the body of hyper's request.
    body: BodyEnd,
}

impl ClientStream {
    pub fn new(
        socket: TcpStream,
        state: Arc<ConnectionState>,
        head_bytes_max: usize,
        budget: &'static ByteBudget,
    ) -> Self {
        Self {
            socket: Some(socket),
            state,
            head_bytes_max,
            held: Vec::new(),
            charge: RequestCharge::new(budget),
            approved: 0,
            seen: 0,
            body: BodyEnd::after(0),
        }
    }

    /// Whether the next request may be parsed.
    fn is_idle(&self) -> bool {
        matches!(self.state.phase(), ConnectionPhase::Idle | ConnectionPhase::Head)
    }

    fn give_approved(&mut self, out: &mut ReadBufCursor<'_>) {
        let given = self.approved.min(out.remaining());
        out.put_slice(&self.held[..given]);
        self.held.drain(..given);
        self.approved -= given;
        if self.approved == 0 {
            self.held.shrink_to_fit();
        }
        // This cannot fail, because the charge does not grow.
        let _ = self.recharge();
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), BudgetSpent> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.held.extend_from_slice(bytes);
        self.recharge()
    }

    fn recharge(&mut self) -> Result<(), BudgetSpent> {
        // Approved bytes are charged as those of a request.
        self.charge.wait(match self.approved {
            0 => self.held.capacity(),
            approved => self.held.len() - approved,
        })
    }

    /// Parses the beginning of a request, and charges it. Returns the number of bytes for hyper; `None` if more bytes are
    /// needed.
    fn look(&mut self, bytes: &[u8]) -> Result<Option<usize>, RefusedHead> {
        match inspect(bytes, self.head_bytes_max) {
            Head::Partial => Ok(None),
            Head::Refused(refusal) => Err(refusal),
            Head::Complete { bytes: head, mut body } => {
                // If the body is malformed from the start, the head is refused too.
                let passed = body.pass(&bytes[head..]).map_err(|_| {
                    RefusedHead::new(
                        ProblemKind::Unreadable,
                        "The chunks of the body are malformed.",
                    )
                })?;
                let rest = bytes.len() - head - passed;
                self.charge.begin(head, passed, rest).map_err(spent)?;
                self.state.enter(if body.is_reached() {
                    ConnectionPhase::Busy
                } else {
                    ConnectionPhase::Body
                });
                self.body = body;
                self.seen = 0;
                Ok(Some(head + passed))
            }
        }
    }

    /// Accepts bytes where a head is expected. Returns whether some are ready for hyper.
    fn take_head(
        &mut self,
        bytes: &[u8],
        out: &mut ReadBufCursor<'_>,
    ) -> Result<bool, RefusedHead> {
        if self.held.is_empty() {
            match self.look(bytes)? {
                // Most requests arrive alone and in one piece, and need no buffer.
                Some(passed) if passed <= out.remaining() => {
                    out.put_slice(&bytes[..passed]);
                    self.hold(&bytes[passed..]).map_err(spent)?;
                    return Ok(true);
                }
                passed => {
                    self.approved = passed.unwrap_or(0);
                    self.seen = if passed.is_some() { 0 } else { bytes.len() };
                    self.hold(bytes).map_err(spent)?;
                }
            }
        } else {
            self.hold(bytes).map_err(spent)?;
            self.look_at_held()?;
        }
        if self.approved == 0 && self.state.phase() == ConnectionPhase::Idle {
            self.state.enter(ConnectionPhase::Head);
        }
        Ok(false)
    }

    fn look_at_held(&mut self) -> Result<(), RefusedHead> {
        let full = self.held.len() >= self.head_bytes_max;
        // The first bytes may already be malformed.
        if !full && self.seen > 0 && !has_end(&self.held, self.seen) {
            self.seen = self.held.len();
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let looked = self.look(&held);
        self.held = held;
        match looked? {
            Some(passed) => self.approved = passed,
            // Only a line break within the head can look like its end.
            None => self.seen = self.held.len(),
        }
        Ok(())
    }

    /// Accepts bytes of a body. Returns whether the budget has room for them; if not, the connection's task ends it.
    fn take_body(&mut self, bytes: &[u8], out: &mut ReadBufCursor<'_>) -> io::Result<bool> {
        let passed = self
            .body
            .pass(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // Otherwise the request is already answered.
        if self.state.phase() == ConnectionPhase::Body && self.charge.add_body(passed).is_err() {
            self.state.refuse_for(ProblemKind::Overloaded);
            return Ok(false);
        }
        out.put_slice(&bytes[..passed]);
        if self.body.is_reached() && self.state.phase() == ConnectionPhase::Body {
            self.state.enter(ConnectionPhase::Busy);
        }
        self.hold_for_later(&bytes[passed..]);
        Ok(true)
    }

    /// Keeps the beginning of the next request, which is parsed after this one is answered.
    fn hold_for_later(&mut self, bytes: &[u8]) {
        if self.hold(bytes).is_err() {
            self.state.refuse_for(ProblemKind::Overloaded);
        }
    }

    /// The number of bytes that may be read now.
    fn room(&self, out: &ReadBufCursor<'_>) -> usize {
        let room = if self.body.is_reached() {
            match self.held.len() {
                0 => READ_BYTES,
                held => self.head_bytes_max.saturating_sub(held),
            }
        } else {
            out.remaining()
        };
        room.min(READ_BYTES)
    }

    /// Reads once. `Ready(true)` means that there are bytes for hyper, or the stream has ended.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        out: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<bool>> {
        let room = self.room(out);
        if room == 0 {
            // The buffer for the next request is full. The end of the current request wakes the task.
            return Poll::Pending;
        }
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(&mut buffer[..room]);
            let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(true)) };
            ready!(Pin::new(socket).poll_read(context, &mut buffer))?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.state.client_closed();
                return Poll::Ready(Ok(true));
            }
            if !self.body.is_reached() {
                return match self.take_body(bytes, out) {
                    Ok(false) => Poll::Pending,
                    taken => Poll::Ready(taken),
                };
            }
            if !self.is_idle() {
                self.hold_for_later(bytes);
                return Poll::Ready(Ok(false));
            }
            Poll::Ready(Ok(self.take_head(bytes, out).unwrap_or_else(|refusal| {
                self.state.refuse(refusal);
                false
            })))
        })
    }

    /// Whether hyper sees the end of the stream. If bytes of the next request have arrived, it is served, because its client
    /// cannot know that the connection was about to end.
    fn is_over(&self) -> bool {
        if !self.is_idle() || self.approved > 0 {
            return false;
        }
        if self.state.is_refused() {
            return true;
        }
        let evicted = self.state.is_evicted();
        if !evicted && !self.state.is_ending() {
            return false;
        }
        if self.held.len() > self.seen || self.has_unread() {
            self.state.stay();
            return false;
        }
        if self.state.phase() == ConnectionPhase::Head {
            self.state.refuse_for(ProblemKind::Overloaded);
        } else if evicted {
            // A request may be on its way.
            self.state.refuse(RefusedHead::new(ProblemKind::SlowRequest, MADE_ROOM));
        }
        true
    }

    /// Whether the client has sent unread bytes. The runtime may not know about them yet.
    fn has_unread(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let peeked = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Ok(1..))
    }
}

impl Read for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.approved > 0 {
                self.give_approved(&mut out);
                return Poll::Ready(Ok(()));
            }
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            // Bytes that arrived during the previous request.
            if self.is_idle() && self.held.len() > self.seen {
                if self.state.phase() == ConnectionPhase::Idle {
                    self.state.enter(ConnectionPhase::Head);
                }
                if let Err(refusal) = self.look_at_held() {
                    self.state.refuse(refusal);
                }
                continue;
            }
            if ready!(self.read(context, &mut out))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn spent(_: BudgetSpent) -> RefusedHead {
    RefusedHead::new(ProblemKind::Overloaded, ProblemKind::Overloaded.explanation())
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.state.hand_back(socket);
        }
    }
}
