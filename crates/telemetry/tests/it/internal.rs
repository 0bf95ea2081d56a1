//! The internal port as Kubernetes, Prometheus and `healthcheck` use it.

use std::{net::SocketAddr, time::Duration};

use holdfast_telemetry::{InternalServer, ProbeError, Readiness, probe, registry};

const LIMIT: Duration = Duration::from_secs(30);

async fn serve(readiness: &Readiness) -> SocketAddr {
    let server = InternalServer::bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    tokio::spawn(server.serve(registry("test", "1.2.3").unwrap(), readiness.clone()));
    address
}

#[tokio::test]
async fn readiness_follows_the_process() {
    let readiness = Readiness::default();
    let address = serve(&readiness).await;
    probe(address, "/livez", LIMIT).await.unwrap();
    let unwell = |error| match error {
        ProbeError::Unwell { status, body, .. } => (status, body),
        other @ ProbeError::NoAnswer { .. } => panic!("{other}"),
    };
    let starting = probe(address, "/readyz", LIMIT).await.unwrap_err();
    assert_eq!(unwell(starting), (503, "starting".to_owned()));
    readiness.ready();
    readiness.until_ready().await;
    probe(address, "/readyz", LIMIT).await.unwrap();
    readiness.not_ready("ending");
    let ending = probe(address, "/readyz", LIMIT).await.unwrap_err();
    assert_eq!(unwell(ending), (503, "ending".to_owned()));
    probe(address, "/livez", LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_probe_without_a_server_fails_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let error = probe(address, "/livez", Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, ProbeError::NoAnswer { .. }), "{error}");
    drop(silent);
    let error = probe(address, "/livez", LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
}

#[tokio::test]
async fn the_metrics_page_shows_the_process_and_its_build() {
    let address = serve(&Readiness::default()).await;
    let page = reqwest::get(format!("http://127.0.0.1:{}/metrics", address.port())).await.unwrap();
    let format = page.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(format, "text/plain; version=0.0.4; charset=utf-8");
    let text = page.text().await.unwrap();
    assert!(text.contains(r#"holdfast_build_info{commit=""#), "{text}");
    assert!(text.contains(r#"service="test",version="1.2.3"} 1"#), "{text}");
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
}

/// Clients that send nothing, and clients that never read their answer.
#[tokio::test]
async fn open_connections_do_not_block_probes() {
    use tokio::{io::AsyncWriteExt as _, net::TcpStream};

    let readiness = Readiness::default();
    readiness.ready();
    let address = serve(&readiness).await;
    let target = ("127.0.0.1", address.port());
    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(target).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        } else {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow:").await.unwrap();
        }
        held.push(stream);
        if number % 50 == 49 {
            probe(address, "/readyz", LIMIT).await.unwrap();
        }
    }
    drop(held);
}

#[tokio::test]
async fn connections_of_one_address_do_not_end_those_of_others() {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpSocket, TcpStream},
    };

    let address = serve(&Readiness::default()).await;
    let target = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let answer = async |stream: &mut TcpStream| {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let mut probe = TcpStream::connect(target).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..200 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(socket.connect(target).await.unwrap());
    }
    // Connections are accepted in order.
    assert!(answer(held.last_mut().unwrap()).await.starts_with("HTTP/1.1 200"));
    assert!(answer(&mut probe).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_sends_no_headers_is_closed_in_time() {
    use tokio::{io::AsyncReadExt as _, net::TcpStream};

    let address = serve(&Readiness::default()).await;
    let mut silent = TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(30), silent.read(&mut [0; 64])).await;
    read.expect("it is closed").ok();
}
