//! Fetches the keys of an OIDC issuer through its discovery document.

use std::{str::FromStr, time::Duration};

use bytes::Bytes;
use holdfast_domain::json::{self, JsonError};
use holdfast_telemetry::settings::MustBe;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::time::timeout;

use super::keys::KeySet;

/// The longest time for fetching a document.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The size limit of a document.
const BYTES_MAX: usize = 256 * 1024;

/// An issuer's address, as in the claim `iss`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// The address, exactly as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of its discovery document (`OpenID` Connect Discovery 1.0, section 4).
    fn discovery(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.0.trim_end_matches('/'))
    }
}

impl FromStr for IssuerUrl {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let good = text.parse::<Uri>().is_ok_and(|uri| safe(&uri));
        if good && !text.contains(['?', '#']) {
            Ok(Self(text.to_owned()))
        } else {
            Err(MustBe::new(
                "must be an https address such as https://login.shop.example, without user, password, \
                 query or fragment (http is allowed only for 127.0.0.1 and localhost)",
            ))
        }
    }
}

/// Whether the connection is protected against changes: TLS, or this host itself. An address with a password would be in the
/// log.
fn safe(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return false;
    }
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => matches!(host, "127.0.0.1" | "localhost" | "[::1]"),
        _ => false,
    }
}

/// Why an issuer's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The host has no certificate authorities.
    #[error("the host's certificate authorities cannot be read; SSL_CERT_FILE may name their file")]
    Authorities(#[source] std::io::Error),
    /// The issuer did not answer in time.
    #[error("{0} did not answer within {TIMEOUT:?}")]
    Slow(String),
    /// The issuer could not be reached.
    #[error("{0} cannot be reached")]
    Unreachable(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The issuer answered with an error.
    #[error("{0} answered with {1}")]
    Refused(String, StatusCode),
    /// The document cannot be parsed.
    #[error("the document at {0} cannot be parsed")]
    Document(String, #[source] JsonError),
    /// The document belongs to another issuer, or contains an unsafe address.
    #[error("the document at {0} {1}")]
    Wrong(String, &'static str),
    /// The document has no usable key.
    #[error("the document at {0} has no usable key")]
    NoKeys(String),
}

/// Fetches the keys of an issuer.
pub struct Issuer {
    url: IssuerUrl,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Does not connect yet.
    ///
    /// # Errors
    /// The host has no certificate authorities.
    pub fn new(url: IssuerUrl) -> Result<Self, IssuerError> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(TIMEOUT));
        http.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(IssuerError::Authorities)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        // It follows no redirects and uses no proxies.
        Ok(Self { url, client: Client::builder(TokioExecutor::new()).build(https) })
    }

    /// The current keys for these algorithms; at least one. Safe to cancel.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn keys(&self, allowed: &[Algorithm]) -> Result<KeySet, IssuerError> {
        let address = self.url.discovery();
        let body = self.document(&address).await?;
        let discovery: Discovery = json::from_slice(&body)
            .map_err(|error| IssuerError::Document(address.clone(), error))?;
        if discovery.issuer != self.url.as_str() {
            return Err(IssuerError::Wrong(address, "belongs to another issuer"));
        }
        let address = discovery.jwks_uri;
        if !address.parse::<Uri>().is_ok_and(|uri| safe(&uri)) {
            return Err(IssuerError::Wrong(
                self.url.discovery(),
                "has a jwks_uri that is not https or contains a user",
            ));
        }
        let body = self.document(&address).await?;
        match KeySet::read(&body, allowed) {
            Ok(keys) if keys.is_empty() => Err(IssuerError::NoKeys(address)),
            Ok(keys) => Ok(keys),
            Err(error) => Err(IssuerError::Document(address, error)),
        }
    }

    async fn document(&self, address: &str) -> Result<Bytes, IssuerError> {
        timeout(TIMEOUT, self.get(address))
            .await
            .map_err(|_| IssuerError::Slow(address.to_owned()))?
    }

    async fn get(&self, address: &str) -> Result<Bytes, IssuerError> {
        let unreachable = |error: Box<dyn std::error::Error + Send + Sync>| {
            IssuerError::Unreachable(address.to_owned(), error)
        };
        let request = Request::get(address)
            .header(header::ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| unreachable(error.into()))?;
        let answer =
            self.client.request(request).await.map_err(|error| unreachable(error.into()))?;
        if answer.status() != StatusCode::OK {
            return Err(IssuerError::Refused(address.to_owned(), answer.status()));
        }
        let body =
            Limited::new(answer.into_body(), BYTES_MAX).collect().await.map_err(unreachable)?;
        Ok(body.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_must_use_https_or_this_host() {
        for good in
            ["https://login.shop.example", "https://id.test/realms/a/", "http://127.0.0.1:9000"]
        {
            assert!(good.parse::<IssuerUrl>().is_ok(), "{good}");
        }
        for bad in [
            "http://login.shop.example",
            "login.shop.example",
            "",
            "https://",
            "ftp://a.b",
            "https://a.test/?x",
            "https://a.test/#x",
            "https://user:password@a.test",
            "https://user@a.test",
        ] {
            assert!(bad.parse::<IssuerUrl>().is_err(), "{bad}");
        }
    }
}
