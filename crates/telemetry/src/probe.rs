//! Checking the health of a program over its internal port.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use crate::settings::MustBe;

const HOST_MAX: usize = 253;

/// The program to check: an IP address or a host name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget(String);

impl From<SocketAddr> for ProbeTarget {
    /// For an address that means all interfaces, the loopback address is used.
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Self(SocketAddr::new(host, address.port()).to_string())
    }
}

impl FromStr for ProbeTarget {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let named = text.rsplit_once(':').is_some_and(|(host, port)| {
            (1..=HOST_MAX).contains(&host.len())
                && host.chars().all(in_name)
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if named {
            return Ok(Self(text.to_owned()));
        }
        Err(MustBe::new(
            "must be an IP address or a host name, and a port, such as 0.0.0.0:9464 or \
             holdfast-api:80",
        ))
    }
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{url} does not answer")]
    NoAnswer { url: String, source: reqwest::Error },
    #[error("{url} answers {status}: {body}")]
    Unwell { url: String, status: u16, body: String },
}

/// Gets `path` from `target` and expects 200 within `limit`.
///
/// # Errors
/// See [`ProbeError`].
pub async fn probe(
    target: impl Into<ProbeTarget>,
    path: &str,
    limit: Duration,
) -> Result<(), ProbeError> {
    let url = format!("http://{}{path}", target.into().0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_name_with_a_port_can_be_probed() {
        for (text, asked) in [
            ("0.0.0.0:9464", Some("127.0.0.1:9464")),
            ("[::]:9464", Some("[::1]:9464")),
            ("10.0.0.7:80", Some("10.0.0.7:80")),
            ("holdfast-api.shop.svc:80", Some("holdfast-api.shop.svc:80")),
            ("holdfast-api", None),
            (":80", None),
            ("host:0", None),
            ("host:99999", None),
            ("user@host:80", None),
            ("host/path:80", None),
        ] {
            let target = text.parse::<ProbeTarget>().ok();
            assert_eq!(target, asked.map(|asked| ProbeTarget(asked.to_owned())), "{text}");
        }
    }
}
