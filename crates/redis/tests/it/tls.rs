//! Sentinels and clusters over TLS: all connections use it, also to a server that was found.

use std::path::PathBuf;

use holdfast_sandbox::{RedisCluster, RedisSentinels, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{port, set, shared_over_tls, until_written, working};

/// A folder with an authority (`ca.crt`), and a certificate for 127.0.0.1 and its key (`tls.crt`, `tls.key`).
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate with the name of its issuer for one that is signed by itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("ca.crt", authority.pem()),
            ("tls.crt", certificate.pem()),
            ("tls.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Self(folder)
    }

    fn ca(&self) -> PathBuf {
        self.0.path().join("ca.crt")
    }
}

#[tokio::test]
async fn a_connection_over_tls_finds_the_new_primary_of_sentinels() {
    let files = Files::new();
    let group = RedisSentinels::start_with_tls(files.0.path()).await.unwrap();
    group.until_complete("").await;
    let connection = working(shared_over_tls(&group.tls_url(), &files.ca())).await;
    group.servers()[0].kill9().await.unwrap();
    until_written(&connection, &group, "second").await;
}

#[tokio::test]
async fn a_connection_over_tls_finds_the_new_primary_of_a_cluster() {
    let files = Files::new();
    let cluster = RedisCluster::start_with_tls(files.0.path()).await.unwrap();
    let connection = working(shared_over_tls(&cluster.tls_url(), &files.ca())).await;
    let first = port(&connection).await.unwrap();
    let server = cluster.servers().iter().find(|server| server.port() == first).unwrap();
    server.kill9().await.unwrap();
    until("the new primary takes a write", async || set(&connection, "second").await).await;
    assert_ne!(port(&connection).await.unwrap(), first);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_with_the_reason() {
    let (files, others) = (Files::new(), Files::new());
    let group = RedisSentinels::start_with_tls(files.0.path()).await.unwrap();
    let refusal = set(&shared_over_tls(&group.tls_url(), &others.ca()), "value").await;
    assert!(refusal.as_ref().is_err_and(|error| error.contains("certificate")), "{refusal:?}");
    let cluster = RedisCluster::start_with_tls(files.0.path()).await.unwrap();
    let refusal = set(&shared_over_tls(&cluster.tls_url(), &others.ca()), "value").await;
    assert!(refusal.as_ref().is_err_and(|error| error.contains("certificate")), "{refusal:?}");
}
