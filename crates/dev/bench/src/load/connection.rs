//! One connection and its request in flight.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::answer;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The size limit of an answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct LoadConnection {
    pub group: usize,
    pub in_flight: Option<SentRequest>,
    target: SocketAddr,
    token: Token,
    /// The socket; `None` after the connection was lost.
    stream: Option<TcpStream>,
    /// The number of sent bytes of the request in flight.
    written: usize,
    /// The beginning of an answer that arrived in pieces.
    partial: Vec<u8>,
    /// The request in flight, if it differs from all others.
    pub own_request: Vec<u8>,
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentRequest {
    /// Its index in the table of requests.
    pub request: u32,
    pub due_ns: u64,
    pub sent_ns: u64,
}

/// The result of a read.
pub(super) enum Received {
    /// Not a whole answer yet.
    Nothing,
    Answer {
        answer: ReceivedAnswer,
        close: bool,
    },
}

/// What is kept of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceivedAnswer {
    pub status: u16,
    /// The id in a 201.
    pub id: Option<i64>,
    pub retry_after: bool,
    /// The answer leaves open if the order exists.
    pub outcome_unknown: bool,
}

impl LoadConnection {
    pub fn new(group: usize, target: SocketAddr, token: Token) -> Self {
        Self {
            group,
            in_flight: None,
            target,
            token,
            stream: None,
            written: 0,
            partial: Vec::new(),
            own_request: Vec::new(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Connects, or connects again. Blocks, which takes microseconds on one machine.
    pub fn connect(&mut self, registry: &Registry) -> io::Result<()> {
        let stream = std::net::TcpStream::connect_timeout(&self.target, CONNECT_LIMIT)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        // Edge-triggered, so registering for writes costs nothing while the socket is writable.
        registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.partial.clear();
        Ok(())
    }

    /// Closes the connection; returns the request in flight.
    pub fn close(&mut self) -> Option<SentRequest> {
        self.stream = None;
        self.in_flight.take()
    }

    /// Sends a request: these bytes, or `own_request` if there are none.
    pub fn send(&mut self, in_flight: SentRequest, bytes: Option<&[u8]>) -> io::Result<()> {
        self.in_flight = Some(in_flight);
        self.written = 0;
        self.continue_sending(bytes)
    }

    /// Sends the rest of the request in flight.
    pub fn continue_sending(&mut self, bytes: Option<&[u8]>) -> io::Result<()> {
        let bytes = bytes.unwrap_or(&self.own_request);
        let Some(stream) = &mut self.stream else { return Err(ErrorKind::NotConnected.into()) };
        while let Some(rest) = bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until there is a complete answer or no more data. `buffer` is scratch space.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let Some(stream) = &mut self.stream else { return Ok(Received::Nothing) };
        loop {
            let count = match stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Received::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let new = buffer.get(..count).unwrap_or_default();
            let bytes = if self.partial.is_empty() {
                new
            } else {
                self.partial.extend_from_slice(new);
                &self.partial
            };
            let Some(answer) = answer::parse(bytes).map_err(|_| ErrorKind::InvalidData)? else {
                if self.partial.is_empty() {
                    self.partial.extend_from_slice(new);
                }
                if self.partial.len() > ANSWER_BYTES_MAX {
                    return Err(ErrorKind::InvalidData.into());
                }
                continue;
            };
            // There is one request at a time, so more than one answer is an error, and so is an answer without a
            // request.
            if bytes.len() > answer.body.end || self.in_flight.is_none() {
                return Err(ErrorKind::InvalidData.into());
            }
            let body = bytes.get(answer.body.clone()).unwrap_or_default();
            let id = (answer.status == 201).then(|| answer::order_id(body)).flatten();
            let outcome_unknown = answer::is_outcome_unknown(answer.status, body);
            self.partial.clear();
            return Ok(Received::Answer {
                answer: ReceivedAnswer {
                    status: answer.status,
                    id,
                    retry_after: answer.retry_after,
                    outcome_unknown,
                },
                close: answer.close,
            });
        }
    }
}
