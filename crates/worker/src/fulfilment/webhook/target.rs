//! Which addresses a webhook may use.
//!
//! A typo, or an attacker who controls the receiver's DNS record, must not be able to direct the worker's requests at
//! its own network: databases, neighbouring services, the cloud's metadata service. So the worker connects only to addresses
//! of the public internet, unless a setting allows others. It resolves the name here, drops addresses that are not public,
//! and connects to one of the rest. There is no second lookup that could return another address.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
    vec,
};

use holdfast_telemetry::settings::MustBe;
use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;

/// The receiver's URL.
///
/// Its path and query may contain a secret token, so only the origin is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverUrl(Uri);

impl ReceiverUrl {
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Scheme, host and port, which may be shown.
    pub fn origin(&self) -> String {
        let scheme = self.0.scheme_str().unwrap_or_default();
        format!("{scheme}://{}", self.0.authority().map_or("", |authority| authority.as_str()))
    }

    /// Checks that it may be used where private addresses are not allowed.
    ///
    /// # Errors
    /// What it must be instead.
    pub fn check_public(&self) -> Result<(), MustBe> {
        if self.0.scheme_str() != Some("https") {
            return Err(MustBe::new(
                "must be https, unless HOLDFAST_WEBHOOK_ALLOW_PRIVATE is true: orders would be \
                 sent unencrypted",
            ));
        }
        // A name is checked whenever it is resolved.
        let host = self.0.host().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(ip) if !is_public(ip) => Err(MustBe::new(
                "must not be a private, local or reserved address, unless \
                 HOLDFAST_WEBHOOK_ALLOW_PRIVATE is true",
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiverUrl({})", self.origin())
    }
}

impl FromStr for ReceiverUrl {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        text.parse::<Uri>()
            .ok()
            .filter(|uri| {
                let plain = uri.authority().is_some_and(|authority| {
                    // A user name and password would have to be sent in a header.
                    !authority.host().is_empty() && !authority.as_str().contains('@')
                });
                plain && matches!(uri.scheme_str(), Some("http" | "https")) && !text.contains('#')
            })
            .map(Self)
            .ok_or_else(|| {
                MustBe::new(
                    "must be an address such as https://shop.example/webhooks/orders, without user, \
                     password or fragment",
                )
            })
    }
}

/// Resolves names, and returns only addresses that are allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    pub allow_private: bool,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{0} resolves only to private, local or reserved addresses, which require \
     HOLDFAST_WEBHOOK_ALLOW_PRIVATE=true"
)]
pub(super) struct NotPublic(String);

impl tower::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            // The connector sets the port.
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            permitted(name.as_str(), found, allow_private).map(Vec::into_iter)
        })
    }
}

fn permitted(
    name: &str,
    mut addresses: Vec<SocketAddr>,
    allow_private: bool,
) -> io::Result<Vec<SocketAddr>> {
    if !allow_private {
        addresses.retain(|address| is_public(address.ip()));
        if addresses.is_empty() {
            return Err(io::Error::other(NotPublic(name.to_owned())));
        }
    }
    Ok(addresses)
}

/// Whether an address is public, according to the registries of special addresses:
/// <https://www.iana.org/assignments/iana-ipv4-special-registry/> and
/// <https://www.iana.org/assignments/iana-ipv6-special-registry/>.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        // "This network", and reserved addresses including broadcast.
        || a == 0
        || a >= 240
        // Shared address space (CGNAT), RFC 6598.
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments, and the obsolete relays from IPv6, RFC 6890 and 7526.
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        // Benchmarking, RFC 2544.
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        // NAT64, RFC 6052, and 6to4, RFC 3056.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            is_public_v4(v4(high, low))
        }
        // Protocol assignments (Teredo and the like), and documentation.
        [0x2001, second, ..] => second > 0x1ff && second != 0xdb8,
        [0x3fff, second, ..] => second > 0xfff,
        // Global unicast. All other addresses are local, multicast or unassigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::808:808",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn only_public_addresses_of_a_name_are_used_and_there_must_be_one() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let mixed = vec![address("10.0.0.1"), address("1.1.1.1"), address("::1")];
        assert_eq!(permitted("h", mixed.clone(), false).unwrap(), [address("1.1.1.1")]);
        assert_eq!(permitted("h", mixed.clone(), true).unwrap(), mixed);
        let refusal = permitted("h", vec![address("10.0.0.1")], false).unwrap_err().to_string();
        assert!(refusal.contains("HOLDFAST_WEBHOOK_ALLOW_PRIVATE"), "{refusal}");
    }

    #[tokio::test]
    async fn private_addresses_in_ipv6_notation_are_recognized() {
        use tower::Service as _;

        // The system's resolver reads these as 127.0.0.1.
        for name in ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"] {
            let found = Resolver { allow_private: false }.call(name.parse().unwrap()).await;
            assert!(found.is_err(), "{name}");
            let allowed = Resolver { allow_private: true }.call(name.parse().unwrap()).await;
            assert!(allowed.unwrap().all(|address| address.ip().is_loopback()), "{name}");
        }
    }

    #[test]
    fn targets_are_checked_when_they_are_parsed() {
        for good in ["https://h", "http://h:80/a?token=1", "https://[::1]:9/x", "https://1.2.3.4/"]
        {
            assert!(good.parse::<ReceiverUrl>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "h",
            "/x",
            "ftp://h/",
            "https://",
            "https://u:hunter2@h/",
            "https://u@h/",
            "https://h/#f",
            "https:///x",
            "https://h h/",
        ] {
            assert!(bad.parse::<ReceiverUrl>().is_err(), "{bad}");
        }
        let shown =
            format!("{:?}", "https://h:8443/a?token=hunter2".parse::<ReceiverUrl>().unwrap());
        assert_eq!(shown, "ReceiverUrl(https://h:8443)");
    }

    #[test]
    fn literal_private_addresses_are_refused_at_the_start() {
        let check = |text: &str| text.parse::<ReceiverUrl>().unwrap().check_public();
        for good in ["https://shop.example/x", "https://1.1.1.1/", "https://localhost/"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "http://shop.example/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://10.1.2.3:80/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
