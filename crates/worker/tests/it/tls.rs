//! A receiver with TLS. Its certificate is checked.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring::default_provider, pki_types::PrivateKeyDer},
};

use crate::{
    fixture::{WorkerFixture, until},
    receiver::serve_plainly,
};

#[tokio::test]
async fn orders_are_sent_only_to_a_receiver_with_a_valid_certificate() {
    let names = vec!["localhost".to_owned()];
    let known = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let other = rcgen::generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, certificate: &rcgen::Certificate| {
        let path = folder.path().join(name);
        std::fs::write(&path, certificate.pem()).unwrap();
        path
    };
    let (known_file, other_file) = (file("known", &known.cert), file("other", &other.cert));

    let key = PrivateKeyDer::try_from(known.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![known.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/orders", listener.local_addr().unwrap().port());
    let receiving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust it disconnects.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let requests = serve_plainly(stream).await;
            if !requests.is_empty() {
                return requests;
            }
        }
    });

    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let binary = |trusted: &std::path::Path| {
        shop.binary_with_webhook(&url).env("SSL_CERT_FILE", trusted.to_str().unwrap())
    };
    let stranger = shop.start(binary(&other_file)).await;
    until("it was attempted", async || shop.order(ids[0]).await.failure.is_some()).await;
    let failure = shop.order(ids[0]).await.failure.unwrap();
    assert!(failure.contains("certificate"), "{failure}");
    assert!(!receiving.is_finished(), "nothing was sent");
    stranger.kill9().await.unwrap();

    let friend = shop.start(binary(&known_file)).await;
    shop.until("completed", 1).await;
    // It is closed together with its connection.
    friend.kill9().await.unwrap();
    let requests = receiving.await.unwrap();
    assert_eq!(requests[0].id(), "order_1");
}
