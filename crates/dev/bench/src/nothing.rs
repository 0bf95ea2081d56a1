//! The baseline server, which does nothing, on the same HTTP stack as the API. It shows the cost of a request without any
//! work, which is the upper bound of all other results.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};

/// As long as the answer to an order.
const ORDER: &[u8] = br#"{"id":1234567,"product_id":123,"quantity":1,"unit_price":499.9,"status":"pending","created_at":"2026-01-31T12:00:00.123456Z"}"#;

/// As long as a product of the benchmark.
const PRODUCT: &[u8] = br#"{"id":123,"name":"Product 123","description":"One of the products that the benchmark orders","price":499.9,"stock":999999999,"version":1234567}"#;

/// Serves until the process ends: `POST /orders` reads and discards the body and answers 201,
/// `GET /products/{id}` answers the same bytes for every id, and `POST /v1/traces` discards spans like a collector.
///
/// # Errors
/// The server cannot listen on the address.
pub async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/orders", post(order))
        .route("/products/{id}", get(product))
        .route("/v1/traces", post(async |body: Bytes| drop(body)))
        .with_state(());
    let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            // The client has disconnected.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The queue of new connections has the longest default length of Linux.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    const BACKLOG: u32 = 4096;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn order(body: Bytes) -> Response<Body> {
    drop(body);
    json(StatusCode::CREATED, ORDER)
}

async fn product() -> Response<Body> {
    json(StatusCode::OK, PRODUCT)
}

fn json(status: StatusCode, body: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
