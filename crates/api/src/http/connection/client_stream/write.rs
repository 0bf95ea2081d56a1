//! What hyper writes to the client.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::Write;
use tokio::io::AsyncWrite as _;

use super::ClientStream;
use crate::{http::connection::state::ConnectionPhase, problem::ProblemKind};

impl ClientStream {
    /// hyper's own error answers. They do not occur, because hyper gets only valid requests.
    fn is_hypers_own(&self, bytes: &[u8]) -> bool {
        matches!(self.state.phase(), ConnectionPhase::Busy | ConnectionPhase::Body)
            && bytes.starts_with(b"HTTP/1.1 4")
    }

    fn written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.state.write_stalled(),
            Poll::Ready(Ok(bytes)) => self.state.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl Write for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_hypers_own(bytes) {
            self.state.refuse_for(ProblemKind::Unreadable);
            return Poll::Ready(Ok(bytes.len()));
        }
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = Pin::new(socket).poll_write(context, bytes);
        self.written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = parts.first()
            && self.is_hypers_own(first)
        {
            self.state.refuse_for(ProblemKind::Unreadable);
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = Pin::new(socket).poll_write_vectored(context, parts);
        self.written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.flushed();
        if self.state.phase() == ConnectionPhase::Answered && self.body.is_reached() {
            self.state.enter(ConnectionPhase::Idle);
            self.charge.end();
            if !self.held.is_empty() {
                // hyper treats this as a pending read.
                context.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Does nothing. The connection's task shuts the socket down after the last write.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
