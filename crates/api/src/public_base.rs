//! The URL of the API for its clients, if it is not the server's own address.
//!
//! A proxy may have another name and scheme, and a prefix that it strips from the path. URLs of the API in answers
//! (`Location`, `Link`, redirects, the OpenAPI document's `servers`) then begin with this base: `HOLDFAST_PUBLIC_URL`, or
//! `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix` of a proxy in `HOLDFAST_TRUSTED_PROXIES`. These headers
//! are ignored from any other client.

use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::Authority};
use holdfast_telemetry::settings::MustBe;

/// The beginning of each URL: a scheme and a host, a prefix, or both. It has no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicBase(String);

impl FromStr for PublicBase {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let must =
            || MustBe::new("must be a URL such as https://shop.example/api, without a query");
        let uri: Uri = text.parse().map_err(|_| must())?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let host = uri.authority().filter(|host| !host.as_str().contains('@'));
        let prefix = prefix(uri.path()).filter(|_| uri.query().is_none());
        match (scheme, host, prefix) {
            (Some(scheme), Some(host), Some(prefix)) => {
                Ok(Self(format!("{scheme}://{host}{prefix}")))
            }
            _ => Err(must()),
        }
    }
}

impl PublicBase {
    /// The base as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The base in the headers of a proxy, if there are any. Call this only for a trusted proxy.
    pub fn forwarded(headers: &HeaderMap) -> Option<Self> {
        let said = |name: &'static str| {
            let value = headers.get(HeaderName::from_static(name))?.to_str().ok()?;
            // The first of several proxies is the one that the client has connected to.
            value.split(',').next().map(str::trim).filter(|value| !value.is_empty())
        };
        let prefix = said("x-forwarded-prefix").and_then(prefix).unwrap_or_default();
        let host = said("x-forwarded-host")
            .and_then(|host| host.parse::<Authority>().ok())
            .filter(|host| !host.as_str().contains('@'));
        let base = match (host, said("x-forwarded-proto")) {
            (Some(host), Some(scheme @ ("http" | "https"))) => format!("{scheme}://{host}{prefix}"),
            (Some(host), None) => format!("//{host}{prefix}"),
            _ => prefix.to_owned(),
        };
        (!base.is_empty()).then_some(Self(base))
    }

    /// Adds the base to the headers of an answer with an absolute path.
    pub fn complete(&self, headers: &mut HeaderMap) {
        for (name, lead) in [(header::LOCATION, ""), (header::LINK, "<")] {
            let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) else {
                continue;
            };
            let Some(path) = value.strip_prefix(lead).filter(|path| path.starts_with('/')) else {
                continue;
            };
            if let Ok(whole) = HeaderValue::try_from(format!("{lead}{}{path}", self.0)) {
                headers.insert(name, whole);
            }
        }
    }
}

/// A path prefix without a slash at its end.
fn prefix(path: &str) -> Option<&str> {
    let bare = path.trim_end_matches('/');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+=:@".contains(&byte);
    let is_path = bare.is_empty() || (bare.starts_with('/') && !bare.starts_with("//"));
    (is_path && bare.bytes().all(good)).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(said: &[(&'static str, &'static str)]) -> Option<String> {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = said.iter().map(header).collect();
        PublicBase::forwarded(&headers).map(|base| base.0)
    }

    #[test]
    fn a_url_can_be_a_base() {
        for (text, base) in [
            ("https://shop.example", "https://shop.example"),
            ("https://shop.example/", "https://shop.example"),
            ("http://shop.example:8080/a/api/", "http://shop.example:8080/a/api"),
        ] {
            assert_eq!(text.parse::<PublicBase>().unwrap().as_str(), base);
        }
        for text in [
            "",
            "/api",
            "shop.example",
            "ftp://shop.example",
            "https://a@b.example",
            "https://a.example/?x",
            "https://a.example//b",
        ] {
            assert!(text.parse::<PublicBase>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_headers_of_a_proxy_are_a_base() {
        let all = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-prefix", "/api/"),
        ];
        assert_eq!(forwarded(&all).unwrap(), "https://shop.example/api");
        assert_eq!(forwarded(&all[2..]).unwrap(), "/api");
        assert_eq!(
            forwarded(&[("x-forwarded-host", "a.example, b.example"), all[0]]).unwrap(),
            "https://a.example"
        );
        assert_eq!(forwarded(&all[..1]), None);
        for (name, value) in [
            ("x-forwarded-prefix", "//evil.example"),
            ("x-forwarded-prefix", "/a>b"),
            ("x-forwarded-prefix", "api"),
            ("x-forwarded-host", "user@evil.example"),
            ("x-forwarded-host", "a b"),
        ] {
            assert_eq!(forwarded(&[(name, value)]), None, "{name}: {value}");
        }
    }

    #[test]
    fn urls_in_headers_begin_with_the_base() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_static("/orders/7"));
        headers.insert(header::LINK, HeaderValue::from_static("</orders?cursor=x>; rel=\"next\""));
        "https://shop.example/api".parse::<PublicBase>().unwrap().complete(&mut headers);
        assert_eq!(headers[header::LOCATION], "https://shop.example/api/orders/7");
        assert_eq!(
            headers[header::LINK],
            "<https://shop.example/api/orders?cursor=x>; rel=\"next\""
        );
    }
}
