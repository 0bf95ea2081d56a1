//! The client of a connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use axum::http::HeaderMap;
use holdfast_telemetry::settings::MustBe;
use ipnet::IpNet;
use parking_lot::Mutex;

/// The header in which proxies send the addresses of their clients.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The peer of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// The local address.
    pub local: SocketAddr,
    /// Whether it is a trusted proxy.
    pub is_proxy: bool,
}

/// Addresses of proxies, such as `10.0.0.0/8` or `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxies(IpNet);

impl Proxies {
    /// Whether the address is in the list.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Proxies {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| {
            MustBe::new("must be addresses or networks such as 10.0.0.0/8, separated by commas")
        })
    }
}

/// The number of connections of each address, or of concurrent requests through a proxy.
#[derive(Debug, Default)]
pub struct ClientAddresses {
    /// The limit for one address; 0 means no limit.
    most: usize,
    proxies: Vec<Proxies>,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// A counted connection or request. It is no longer counted after a drop.
#[derive(Debug)]
pub struct Counted {
    address: IpAddr,
    among: Arc<ClientAddresses>,
}

/// The address has reached its limit of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl ClientAddresses {
    /// Counts with this limit for each address.
    pub fn new(most: usize, proxies: Vec<Proxies>) -> Self {
        Self { most, proxies, counts: Mutex::default() }
    }

    /// Whether the address belongs to a trusted proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxies| proxies.contains(address))
    }

    /// Counts a connection; `None` if it does not have to be counted.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn connection(self: &Arc<Self>, client: &Peer) -> Result<Option<Counted>, TooMany> {
        if client.is_proxy { Ok(None) } else { self.count(client.address) }
    }

    /// Counts a request through a proxy; `None` if it does not have to be counted.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn request(
        self: &Arc<Self>,
        client: &Peer,
        headers: &HeaderMap,
    ) -> Result<Option<Counted>, TooMany> {
        if self.most == 0 || !client.is_proxy {
            return Ok(None);
        }
        self.count(self.forwarded_for(headers).unwrap_or(client.address))
    }

    /// The last address in the header that is not a trusted proxy. Clients can forge all addresses before it.
    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let values = headers.get_all(X_FORWARDED_FOR).iter();
        let mut all = values.rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        let mut last = None;
        loop {
            let Some(part) = all.next() else { return last };
            let address = std::str::from_utf8(part).ok().and_then(|text| address_of(text.trim()));
            match address {
                Some(address) if self.is_proxy(address) => last = Some(address),
                Some(address) => return Some(address),
                None => return last,
            }
        }
    }

    fn count(self: &Arc<Self>, address: IpAddr) -> Result<Option<Counted>, TooMany> {
        if self.most == 0 {
            return Ok(None);
        }
        let address = household(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(Counted { address, among: Arc::clone(self) }))
    }
}

/// Parses an address with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// An IPv4 address, or the /64 network of an IPv6 address, which providers assign to one customer.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.among.counts.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, addresses: &ClientAddresses) -> Peer {
        let address = address.parse().unwrap();
        Peer {
            address,
            local: "127.0.0.1:8000".parse().unwrap(),
            is_proxy: addresses.is_proxy(address),
        }
    }

    fn addresses(most: usize) -> Arc<ClientAddresses> {
        let proxies = ["10.0.0.0/8", "::1"].map(|text| text.parse().unwrap()).to_vec();
        Arc::new(ClientAddresses::new(most, proxies))
    }

    #[test]
    fn an_address_has_a_connection_limit_and_a_proxy_has_none() {
        let addresses = addresses(2);
        let one = client("192.0.2.1", &addresses);
        let first = addresses.connection(&one).unwrap();
        let _second = addresses.connection(&one).unwrap();
        assert_eq!(addresses.connection(&one).unwrap_err(), TooMany);
        assert!(addresses.connection(&client("192.0.2.2", &addresses)).is_ok());
        drop(first);
        assert!(addresses.connection(&one).unwrap().is_some());
        for proxy in ["10.1.2.3", "::1", "::ffff:10.1.2.3"] {
            let proxy = client(proxy, &addresses);
            assert!(proxy.is_proxy && addresses.connection(&proxy).unwrap().is_none());
        }
        assert!(addresses.counts.lock().len() <= 2);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let addresses = addresses(1);
        let _first = addresses.connection(&client("2001:db8::1", &addresses)).unwrap();
        assert!(addresses.connection(&client("2001:db8::2:1", &addresses)).is_err());
        assert!(addresses.connection(&client("2001:db8:0:1::1", &addresses)).is_ok());
    }

    #[test]
    fn only_the_last_address_from_a_trusted_proxy_is_used() {
        let addresses = addresses(1);
        let said = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(X_FORWARDED_FOR, value.parse().unwrap());
            }
            addresses.forwarded_for(&headers).map(|address| address.to_string())
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&["192.0.2.1"]).unwrap(), "192.0.2.1");
        assert_eq!(said(&["1.2.3.4, 192.0.2.1, 10.0.0.9"]).unwrap(), "192.0.2.1");
        assert_eq!(said(&["1.2.3.4", "192.0.2.1:5000,10.0.0.9"]).unwrap(), "192.0.2.1");
        assert_eq!(said(&["[2001:db8::1]:80"]).unwrap(), "2001:db8::1");
        assert_eq!(said(&["1.2.3.4, nonsense, 10.0.0.9"]).unwrap(), "10.0.0.9");

        let headers = HeaderMap::from_iter([(
            axum::http::HeaderName::from_static(X_FORWARDED_FOR),
            "192.0.2.7".parse().unwrap(),
        )]);
        let proxy = client("10.0.0.1", &addresses);
        let _first = addresses.request(&proxy, &headers).unwrap().unwrap();
        assert!(addresses.request(&proxy, &headers).is_err());
        let stranger = client("192.0.2.9", &addresses);
        assert!(addresses.request(&stranger, &headers).unwrap().is_none());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let addresses = addresses(0);
        assert!(addresses.connection(&client("192.0.2.1", &addresses)).unwrap().is_none());
        assert!("10.0.0.0/33".parse::<Proxies>().is_err() && "host".parse::<Proxies>().is_err());
    }
}
