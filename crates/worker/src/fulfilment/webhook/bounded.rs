//! Limits how much a receiver may send in answer to one request.
//!
//! hyper limits the head of an answer, and the parent module limits its body. But any number of interim answers
//! (`100 Continue`) may precede it, and hyper skips them without a limit. So this counts the bytes below TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::target::Resolver;

/// How much is read for one request, including TLS and its handshake.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Smaller writes are not requests but come from TLS itself.
const REQUEST_BYTES_MIN: usize = 128;

#[derive(Clone, Debug)]
pub(super) struct BoundedConnector(pub HttpConnector<Resolver>);

impl tower::Service<Uri> for BoundedConnector {
    type Response = BoundedStream;
    type Error = <HttpConnector<Resolver> as tower::Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<BoundedStream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tower::Service::call(&mut self.0, uri);
        Box::pin(async move { Ok(BoundedStream { stream: connecting.await?, read: 0 }) })
    }
}

#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TokioIo<TcpStream>,
    /// Bytes since the last request.
    read: usize,
}

impl BoundedStream {
    fn wrote(&mut self, bytes: usize) {
        if bytes >= REQUEST_BYTES_MIN {
            self.read = 0;
        }
    }
}

impl Connection for BoundedStream {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read >= ANSWER_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other("the receiver sends too much")));
        }
        let mut buffer = [0; 8 * 1024];
        let room = out.remaining().min(buffer.len());
        let mut part = hyper::rt::ReadBuf::new(&mut buffer[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(context, part.unfilled()))?;
        out.put_slice(part.filled());
        self.read += part.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl Write for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
