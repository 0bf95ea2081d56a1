//! An HTTP server whose replies a test determines for each request.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub enum Reply {
    /// Sends these bytes.
    Answer(String),
    /// Sends these bytes, one at a time.
    InPieces(String),
    /// Closes the connection.
    Close,
    /// Sends nothing.
    Silence,
}

pub struct ScriptedServer {
    pub address: SocketAddr,
    received: Arc<AtomicU64>,
}

impl ScriptedServer {
    /// The number of received requests.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }
}

/// A 201 for the order `id`.
pub fn created(id: u64) -> String {
    let body = format!("{{\"id\":{id},\"quantity\":1}}");
    format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Starts a server. `reply` is called with the number of the request, from 1. Its threads end with the test.
pub fn start(reply: impl Fn(u64) -> Reply + Send + Sync + 'static) -> ScriptedServer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    let reply = Arc::new(reply);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (reply, counter) = (Arc::clone(&reply), Arc::clone(&counter));
            std::thread::spawn(move || serve(stream.unwrap(), &*reply, &counter));
        }
    });
    ScriptedServer { address, received }
}

fn serve(mut stream: TcpStream, reply: &dyn Fn(u64) -> Reply, counter: &AtomicU64) {
    stream.set_nodelay(true).unwrap();
    // There is one short request at a time, so it arrives in one piece.
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let sent = match reply(number) {
            Reply::Answer(text) => stream.write_all(text.as_bytes()),
            Reply::InPieces(text) => text.bytes().try_for_each(|byte| stream.write_all(&[byte])),
            Reply::Close => return,
            Reply::Silence => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}
