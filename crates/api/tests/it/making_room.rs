//! The connections that are closed at the maximum, and the answers to their clients.

use std::{collections::HashSet, time::Duration};

use futures::future::{join_all, select_all};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::server::Server;

const SHORT: Duration = Duration::from_secs(30);
const HEALTH: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// The setting of the public port equals the fixed number of the admin port, so both behave the same.
const MAX: usize = 64;
/// An idle connection is kept for a tenth of a second.
const IDLE: Duration = Duration::from_millis(150);

async fn with(address: &str, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream
}

/// The status of the next answer; `None` if the connection was reset.
async fn status(stream: &mut TcpStream) -> Result<u16, String> {
    let mut text = vec![0; 16 * 1024];
    let read = tokio::time::timeout(SHORT, stream.read(&mut text)).await.expect("in time");
    let read = read.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text[..read]);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|text| text.get(..3)?.parse().ok());
    status.ok_or_else(|| format!("{text:?}"))
}

/// Opens this many connections, each of which has had an answer and is idle.
async fn idle(address: &str) -> Vec<TcpStream> {
    let connect = async || {
        let mut stream = with(address, HEALTH).await;
        assert_eq!(status(&mut stream).await, Ok(200));
        stream
    };
    let streams = join_all((0..MAX).map(|_| connect())).await;
    // The idle time is the subject.
    tokio::time::sleep(IDLE).await;
    streams
}

/// Waits until the server has closed one of these. Returns it, and what the server sent.
async fn first_closed(streams: &mut [TcpStream]) -> (&mut TcpStream, String) {
    let reads = streams.iter_mut().map(|stream| {
        Box::pin(async move {
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("it is not reset");
            (stream, text)
        })
    });
    let (closed, ..) = tokio::time::timeout(SHORT, select_all(reads)).await.expect("in time");
    closed
}

/// Whether all its threads are stopped.
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap())
        .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
}

/// The clients' ports of the connections whose bytes the server has not read yet. The kernel may deliver bytes after the
/// client's call has returned.
fn unread() -> HashSet<u16> {
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_clients = table.lines().skip(1).filter_map(|line| {
        // number, local address, remote address, state, bytes unsent and unread
        let mut fields = line.split_whitespace().skip(2);
        let client = port(fields.next()?)?;
        let (_, unread) = fields.nth(1)?.split_once(':')?;
        (!unread.trim_start_matches('0').is_empty()).then_some(client)
    });
    of_clients.collect()
}

async fn server() -> Server {
    Server::with(&[("HOLDFAST_MAX_CONNECTIONS", &MAX.to_string())]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_next_request_has_arrived_is_not_closed() {
    let server = server().await;
    for address in [&server.api.address, &server.admin.address] {
        let mut round = 0;
        while round < 10 {
            server
                .until("the earlier ones are gone", async || {
                    server.metric("holdfast_http_connections").await == 0
                })
                .await;
            let evicted = server.metric("holdfast_http_connections_evicted_total").await;
            let mut streams = idle(address).await;
            // Connections of before that waited for room may have taken it from these.
            if server.metric("holdfast_http_connections_evicted_total").await > evicted {
                continue;
            }
            round += 1;
            // All of it is there at once when it goes on: those that want room, and the requests of those that were idle.
            server.process.pause().unwrap();
            server.until("it has stopped", async || stands_still(server.process.pid())).await;
            let more = join_all((0..16).map(|_| with(address, HEALTH))).await;
            for stream in &mut streams {
                stream.write_all(HEALTH).await.unwrap();
            }
            let all =
                || streams.iter().chain(&more).map(|stream| stream.local_addr().unwrap().port());
            server
                .until("all has arrived", async || all().all(|port| unread().contains(&port)))
                .await;
            server.process.resume().unwrap();
            for (at, stream) in streams.iter_mut().enumerate() {
                assert_eq!(status(stream).await, Ok(200), "{address}, round {round}, {at}");
            }
            drop(more);
        }
    }
}

#[tokio::test]
async fn an_idle_connection_that_makes_room_gets_408() {
    let server = server().await;
    let evicted = async || server.metric("holdfast_http_connections_evicted_total").await;
    for address in [&server.api.address, &server.admin.address] {
        let mut streams = idle(address).await;
        let before = evicted().await;
        let mut more = with(address, HEALTH).await;
        assert_eq!(status(&mut more).await, Ok(200));
        let (stream, text) = first_closed(&mut streams).await;
        assert!(text.starts_with("HTTP/1.1 408"), "{text}");
        assert!(text.contains("connection: close") && text.contains("not processed"), "{text}");
        // A request that was on its way meanwhile does not reset it.
        stream.write_all(HEALTH).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        let closed = evicted().await - before;
        assert!((1..MAX as u64 / 2).contains(&closed), "{closed} are closed");
    }
}

#[tokio::test]
async fn an_unfinished_body_that_makes_room_is_answered() {
    let server = server().await;
    let unfinished =
        b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                       content-length: 20\r\n\r\n{";
    let mut streams = join_all((0..MAX).map(|_| with(&server.api.address, unfinished))).await;
    server
        .until("a new client gets in", async || {
            status(&mut with(&server.api.address, HEALTH).await).await == Ok(200)
        })
        .await;
    let (_, text) = first_closed(&mut streams).await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert!(text.to_lowercase().contains("retry-after: "), "{text}");
}
