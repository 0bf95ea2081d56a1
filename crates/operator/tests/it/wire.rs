//! Sends requests directly to a replica, like the API server or like another client.

use std::net::SocketAddr;

use holdfast_sandbox::CertificatePair;
use http::{HeaderName, HeaderValue};
use kube::{Client, Config, client::Body};
use serde_json::Value;

use crate::{
    cluster::{Cluster, NAMESPACE, SECRET, SERVICE},
    objects,
};

/// A client and the user that it names.
pub struct Asker {
    client: Client,
}

impl Asker {
    /// Presents a certificate, if any, and names `user`. Trusts the CA in the Secret.
    pub async fn new(
        cluster: &Cluster,
        address: SocketAddr,
        pair: Option<CertificatePair>,
        headers: &[(&str, &str)],
    ) -> Self {
        let secret = objects::secret(NAMESPACE, SECRET);
        let secret = objects::get(&cluster.client().await, &secret).await.unwrap();
        let ca = decode(secret["data"]["ca.crt"].as_str().unwrap());
        let host = format!("{SERVICE}.{NAMESPACE}.svc");
        Self::of(&ca, &host, address, pair, headers)
    }

    pub fn of(
        ca: &str,
        host: &str,
        address: SocketAddr,
        pair: Option<CertificatePair>,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut config = Config::new(format!("https://{address}").parse().unwrap());
        let roots = holdfast_operator::authority::parse_bundle(ca.as_bytes()).unwrap();
        config.root_cert = Some(roots.iter().map(|root| root.to_vec()).collect());
        config.tls_server_name = Some(host.to_owned());
        config.headers = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
            })
            .collect();
        if let Some(pair) = pair {
            config.auth_info.client_certificate_data = Some(encode(&pair.certificate));
            config.auth_info.client_key_data = Some(encode(&pair.key).into());
        }
        Self { client: Client::try_from(config).unwrap() }
    }

    /// The status and the body, which is always JSON.
    pub async fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        self.try_ask(method, path).await.unwrap()
    }

    pub async fn try_ask(&self, method: &str, path: &str) -> kube::Result<(u16, Value)> {
        let request =
            http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = self.client.send(request).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect_bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap()))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path).await
    }
}

pub fn encode(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub fn decode(text: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    String::from_utf8(bytes).unwrap()
}
