//! The faults of the proxy.

use std::time::{Duration, Instant};

use holdfast_sandbox::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A client and a server with a proxy between them.
async fn connected() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (proxy, client, server)
}

async fn says(from: &mut TcpStream, to: &mut TcpStream, word: &[u8; 4]) {
    from.write_all(word).await.unwrap();
    let mut heard = [0; 4];
    to.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, word);
}

#[tokio::test]
async fn a_half_closed_connection_still_reaches_the_server() {
    let (proxy, mut client, mut server) = connected().await;
    says(&mut client, &mut server, b"ping").await;
    says(&mut server, &mut client, b"pong").await;
    proxy.half_close();
    assert_eq!(client.read(&mut [0; 4]).await.unwrap(), 0, "the end");
    says(&mut client, &mut server, b"more").await;
    server.write_all(b"lost").await.unwrap();
    assert_eq!(client.read(&mut [0; 4]).await.unwrap(), 0, "and nothing after it");
}

#[tokio::test]
async fn a_delay_holds_each_message_in_both_directions() {
    let (proxy, mut client, mut server) = connected().await;
    let delay = Duration::from_millis(50);
    proxy.delay(delay);
    let begun = Instant::now();
    says(&mut client, &mut server, b"ping").await;
    assert!(begun.elapsed() >= delay);
    says(&mut server, &mut client, b"pong").await;
    assert!(begun.elapsed() >= 2 * delay);
}

#[tokio::test]
async fn a_cut_closes_a_connection_for_both_sides() {
    let (proxy, mut client, mut server) = connected().await;
    says(&mut client, &mut server, b"ping").await;
    proxy.cut();
    assert!(matches!(client.read(&mut [0; 4]).await, Ok(0) | Err(_)));
    assert!(matches!(server.read(&mut [0; 4]).await, Ok(0) | Err(_)));
}
