//! The TLS port for the aggregator of the API server.
//!
//! The certificate can be replaced while connections are open: they keep theirs, and new connections use the new one.
//! The client certificate is requested here and checked for each request in `caller`, because the trusted authorities
//! may change while a connection is open.

mod any_client;
mod served_certificate;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use served_certificate::ServedCertificate;

use crate::{authority::crypto, external::ExternalMetrics};
use any_client::AnyClient;

/// The most connections. Each API server keeps a few.
const CONNECTIONS_MAX: usize = 256;
/// The time limit of a handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// The time limit for the headers of a request, and how long an idle connection is kept. It is longer than the 90
/// seconds after which the aggregator closes it, so that no request is sent on a connection that the operator is
/// closing.
const IDLE_LIMIT: Duration = Duration::from_mins(2);
/// The buffer of hyper for a connection.
const BUFFER_BYTES: usize = 64 * 1024;

pub struct TlsListener {
    tcp: TcpListener,
    address: SocketAddr,
}

/// Connections that are still open when the port is closed.
pub struct DrainingConnections(GracefulShutdown);

impl DrainingConnections {
    /// Closes each connection after its current request, and waits until all are closed.
    pub async fn ended(self) {
        self.0.shutdown().await;
    }
}

impl TlsListener {
    /// Opens the port. Connections wait in the kernel until [`run`](Self::run).
    ///
    /// # Errors
    /// The port is in use, or cannot be opened.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address })
    }

    /// Its address, with the actual port if 0 was requested.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `stop` ends, then closes the port.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub async fn run(
        self,
        served: ServedCertificate,
        service: Arc<ExternalMetrics>,
        stop: impl Future<Output = ()>,
    ) -> Result<DrainingConnections, rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(config(served)?));
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.tcp.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // For example, no file descriptor is free. Wait until some are closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Without a permit, the connection is dropped and so closed.
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                tracing::warn!("too many connections: one was closed");
                continue;
            };
            let (acceptor, service) = (acceptor.clone(), Arc::clone(&service));
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                let connection = async {
                    let stream = handshake(&acceptor, stream).await?;
                    let certificates = certificates_of(&stream);
                    let service = service_fn(move |request: hyper::Request<Incoming>| {
                        let (service, certificates) =
                            (Arc::clone(&service), Arc::clone(&certificates));
                        async move {
                            let answer = service.answer(request, &certificates).await;
                            Ok::<_, std::convert::Infallible>(answer)
                        }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(IDLE_LIMIT)
                        .max_buf_size(BUFFER_BYTES)
                        .serve_connection(TokioIo::new(stream), service);
                    watcher.watch(connection).await.map_err(io::Error::other)
                };
                // The client disconnected, does not speak TLS, or is too slow.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
                drop(permit);
            });
        }
        drop(self.tcp);
        Ok(DrainingConnections(graceful))
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    // Otherwise, an answer could wait 40 ms for an acknowledgement.
    stream.set_nodelay(true)?;
    timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await?
}

fn certificates_of(stream: &TlsStream<TcpStream>) -> Arc<[CertificateDer<'static>]> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    certificates.iter().map(|certificate| certificate.clone().into_owned()).collect()
}

fn config(served: ServedCertificate) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyClient::new()))
        .with_cert_resolver(Arc::new(served));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would use the client certificate of the first handshake without a proof of its key. There are
    // few handshakes, so each is a full one.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
