//! Asking a process of ours, on the same host, whether it is well.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No answer.
    #[error("{url} does not answer")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer was not 200.
    #[error("{url} answers {status}: {body}")]
    Unwell {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// The reason that it gives.
        body: String,
    },
}

/// Gets `path` from the process that listens on `address` and expects 200 within `limit`. An
/// address that means every interface is asked on loopback.
///
/// # Errors
/// See [`ProbeError`].
pub async fn probe(address: SocketAddr, path: &str, limit: Duration) -> Result<(), ProbeError> {
    let host = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let url = format!("http://{}{path}", SocketAddr::new(host, address.port()));
    let no_answer = |source| ProbeError::NoAnswer { url: url.clone(), source };
    let client = reqwest::Client::builder().timeout(limit).build().map_err(no_answer)?;
    let answer = client.get(&url).send().await.map_err(no_answer)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut body = answer.text().await.map_err(no_answer)?;
    body.truncate(body.floor_char_boundary(200));
    Err(ProbeError::Unwell { url, status: status.as_u16(), body })
}
