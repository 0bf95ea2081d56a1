//! How much a receiver may send in answer to one request.
//!
//! hyper bounds the head of an answer and this module's parent bounds its body. But an answer may be
//! preceded by any number of interim ones (`100 Continue`), which hyper skips without an end. So the
//! bytes themselves are counted, below TLS.

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

/// The most that is read for one request, TLS and its handshake included.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// No request is as small. What TLS itself writes is, and must not count as one.
const REQUEST_BYTES_MIN: usize = 128;

/// Makes connections that are bounded.
#[derive(Clone, Debug)]
pub(super) struct BoundedConnector(pub HttpConnector<Resolver>);

impl tower::Service<Uri> for BoundedConnector {
    type Response = Bounded;
    type Error = <HttpConnector<Resolver> as tower::Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Bounded, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tower::Service::call(&mut self.0, uri);
        Box::pin(async move { Ok(Bounded { stream: connecting.await?, read: 0 }) })
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bounded {
    stream: TokioIo<TcpStream>,
    /// Since the last request.
    read: usize,
}

impl Bounded {
    fn wrote(&mut self, bytes: usize) {
        if bytes >= REQUEST_BYTES_MIN {
            self.read = 0;
        }
    }
}

impl Connection for Bounded {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read >= ANSWER_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other("the receiver sends without an end")));
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

impl Write for Bounded {
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
