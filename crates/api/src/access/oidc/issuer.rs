//! The keys of an OIDC issuer, found by its discovery document and kept fresh.

use std::{collections::HashMap, fmt, str::FromStr, time::Duration};

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
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{JwkSet, PublicKeyUse},
};
use serde::Deserialize;
use tokio::time::timeout;

/// The longest that fetching a document may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest document that is read.
const BYTES_MAX: usize = 256 * 1024;
/// The most keys that are taken from one.
const KEYS_MAX: usize = 64;

/// An issuer's address, as in the claim `iss`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// The address, exactly as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its discovery document is
    /// (`OpenID` Connect Discovery 1.0, section 4).
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
                "must be an https address such as https://login.shop.example, without query or \
                 fragment (http is for 127.0.0.1 and localhost only)",
            ))
        }
    }
}

/// Whether nobody on the way can change what comes from there.
fn safe(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => matches!(host, "127.0.0.1" | "localhost" | "[::1]"),
        _ => false,
    }
}

/// Why an issuer's keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No certificate authority is known on this host.
    #[error("the host's certificate authorities cannot be read; SSL_CERT_FILE may name their file")]
    Authorities(#[source] std::io::Error),
    /// It did not answer in time.
    #[error("{0} did not answer within {TIMEOUT:?}")]
    Slow(String),
    /// It could not be reached.
    #[error("{0} cannot be reached")]
    Unreachable(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered with something else than a document.
    #[error("{0} answered with {1}")]
    Refused(String, StatusCode),
    /// The document is not what it should be.
    #[error("the document at {0} is not as it should be")]
    Document(String, #[source] JsonError),
    /// The document is of another issuer, or leads to an address that is not safe.
    #[error("the document at {0} {1}")]
    Wrong(String, &'static str),
}

/// A key of the issuer.
#[derive(Clone)]
pub struct IssuerKey {
    /// The key.
    pub key: DecodingKey,
    /// The one algorithm that it is for, if it says so.
    pub algorithm: Option<Algorithm>,
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IssuerKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The keys by their ids.
pub type IssuerKeys = HashMap<String, IssuerKey>;

/// Asks an issuer for its keys.
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
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// A host without certificate authorities.
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
        // It follows no redirects and knows of no proxies.
        Ok(Self { url, client: Client::builder(TokioExecutor::new()).build(https) })
    }

    /// Its keys of now. Safe to cancel.
    ///
    /// # Errors
    /// The issuer, or what it says, is not as it should be.
    pub async fn keys(&self) -> Result<IssuerKeys, IssuerError> {
        let address = self.url.discovery();
        let discovery: Discovery = self.document(&address).await?;
        if discovery.issuer != self.url.as_str() {
            return Err(IssuerError::Wrong(address, "is of another issuer"));
        }
        if !discovery.jwks_uri.parse::<Uri>().is_ok_and(|uri| safe(&uri)) {
            return Err(IssuerError::Wrong(address, "has a jwks_uri that is not https"));
        }
        let set: JwkSet = self.document(&discovery.jwks_uri).await?;
        Ok(usable(&set))
    }

    async fn document<T: for<'de> Deserialize<'de>>(
        &self,
        address: &str,
    ) -> Result<T, IssuerError> {
        let body = timeout(TIMEOUT, self.get(address))
            .await
            .map_err(|_| IssuerError::Slow(address.to_owned()))??;
        json::from_slice(&body).map_err(|error| IssuerError::Document(address.to_owned(), error))
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

/// The keys that can check signatures. Those of another use, without an id, or of a kind that is not
/// known here are passed over.
fn usable(set: &JwkSet) -> IssuerKeys {
    set.keys
        .iter()
        .filter(|jwk| matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)))
        .take(KEYS_MAX)
        .filter_map(|jwk| {
            let id = jwk.common.key_id.clone()?;
            let key = DecodingKey::from_jwk(jwk).ok()?;
            let algorithm = match jwk.common.key_algorithm {
                None => None,
                Some(named) => Some(Algorithm::try_from(named).ok()?),
            };
            Some((id, IssuerKey { key, algorithm }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_must_be_safe() {
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
        ] {
            assert!(bad.parse::<IssuerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_keys_that_check_signatures_are_taken() {
        let set = serde_json::json!({ "keys": [
            { "kty": "RSA", "kid": "good", "use": "sig", "alg": "RS256", "n": "AQAB", "e": "AQAB" },
            { "kty": "RSA", "kid": "other use", "use": "enc", "n": "AQAB", "e": "AQAB" },
            { "kty": "RSA", "use": "sig", "n": "AQAB", "e": "AQAB" },
            { "kty": "oct", "kid": "shared", "k": "AQAB", "alg": "RSA-OAEP" },
        ]});
        let keys = usable(&serde_json::from_value(set).unwrap());
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(keys["good"].algorithm, Some(Algorithm::RS256));
    }
}
