//! Refuses web pages of other sites if requests need no key.
//!
//! A browser on a developer's machine can reach the server's ports, and a page of any site can make it send requests. This
//! module refuses requests of other sites' pages (`Origin` and `Sec-Fetch-Site`,
//! <https://www.w3.org/TR/fetch-metadata/>), and requests of pages whose host name was made to resolve to this server (DNS
//! rebinding), which `Host` reveals.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::http::{HeaderMap, Method, Uri, header, uri::Authority};
use holdfast_telemetry::settings::MustBe;

use super::Peer;
use crate::problem::{Problem, ProblemKind};

/// A host name without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !text.is_empty() && text.bytes().all(good) {
            Ok(Self(text.trim_end_matches('.').to_ascii_lowercase()))
        } else {
            Err(MustBe::new(
                "must be host names such as shop.example, without ports and separated by commas",
            ))
        }
    }
}

/// The names of this server, and the allowed origins.
#[derive(Clone, Debug, Default)]
pub struct OwnSite {
    /// Names besides localhost and the addresses of this host.
    pub hosts: Vec<HostName>,
    /// Origins of other sites that are allowed.
    pub origins: Vec<String>,
}

impl OwnSite {
    /// Refuses a request that may come from a page of another site.
    ///
    /// # Errors
    /// 403.
    pub fn check(
        &self,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        client: &Peer,
    ) -> Result<(), Problem> {
        let header = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        let host = uri.authority().map(Authority::as_str).or(header);
        // Only HTTP/1.0 requests have no `Host`, and browsers do not use HTTP/1.0.
        if let Some(host) = host
            && !self.is_ours(name_of(host), client.local)
        {
            return Err(Problem::with_detail(
                ProblemKind::Forbidden,
                "With HOLDFAST_AUTH=off, the header `Host` must name this host itself or a host \
                 in HOLDFAST_ALLOWED_HOSTS.",
            ));
        }
        let writes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if writes && !self.is_of_own_page(headers, host) {
            return Err(Problem::with_detail(
                ProblemKind::Forbidden,
                "With HOLDFAST_AUTH=off, pages of other sites cannot change anything, unless \
                 HOLDFAST_CORS_ORIGINS lists them.",
            ));
        }
        Ok(())
    }

    fn is_ours(&self, name: &str, local: SocketAddr) -> bool {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback() || address == local.ip().to_canonical();
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|host| host.0 == name)
    }

    fn is_of_own_page(&self, headers: &HeaderMap, host: Option<&str>) -> bool {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let origin = text(header::ORIGIN.as_str());
        let known = origin.is_some_and(|origin| self.origins.iter().any(|known| known == origin));
        let same_site =
            text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
        let same_origin = origin.is_none_or(|origin| {
            let of_origin =
                origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            of_origin.zip(host).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host))
        });
        known || (same_site && same_origin)
    }
}

/// The host without the port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn allowed(method: &Method, uri: &str, headers: &[(&'static str, &str)]) -> bool {
        let site = OwnSite {
            hosts: vec!["Shop.Example.".parse().unwrap()],
            origins: vec!["https://admin.example".to_owned()],
        };
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let client = Peer {
            address: "127.0.0.1".parse().unwrap(),
            local: "10.1.2.3:8000".parse().unwrap(),
            is_proxy: false,
        };
        let uri = uri.parse().unwrap();
        site.check((method, &uri, &headers), &client).is_ok()
    }

    #[test]
    fn only_names_of_this_server_are_accepted() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "shop.localhost:1",
            "127.0.0.1:8000",
            "127.1.2.3",
            "[::1]:8000",
            "[::1]",
            "10.1.2.3:8000",
            "shop.example:80",
        ] {
            assert!(allowed(&Method::GET, "/orders", &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "notlocalhost",
            "10.1.2.4:8000",
            "8.8.8.8",
            "[2001:db8::1]:8000",
            "x.shop.example",
            "",
        ] {
            for method in [Method::GET, Method::POST] {
                assert!(!allowed(&method, "/orders", &[("host", host)]), "{host}");
            }
        }
        assert!(!allowed(&Method::GET, "http://evil.example/", &[("host", "localhost")]));
        assert!(allowed(&Method::GET, "/", &[]), "HTTP/1.0");
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let host = ("host", "localhost:8000");
        for (headers, good) in [
            (&[][..], true),
            (&[("origin", "http://localhost:8000")], true),
            (&[("origin", "https://LOCALHOST:8000")], true),
            (&[("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "https://admin.example"), ("sec-fetch-site", "cross-site")], true),
            (&[("origin", "http://localhost:3000")], false),
            (&[("origin", "http://localhost")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (&[("origin", "file://localhost:8000")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "")], false),
        ] {
            let headers = [&[host], headers].concat();
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                assert_eq!(allowed(&method, "/orders", &headers), good, "{method} {headers:?}");
            }
            assert!(allowed(&Method::GET, "/orders", &headers), "{headers:?}");
        }
    }

    #[test]
    fn a_host_name_has_no_port() {
        for bad in ["", "shop.example:80", "http://shop.example", "a b", "*"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
