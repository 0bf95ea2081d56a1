//! Asks a server of a Redis Cluster which server has a slot.
//!
//! Each user of this crate has all its keys in one slot, so it connects to one server of the cluster, as to a primary with
//! replicas: scripts and pipelines may use many keys, a blocking read has one connection, and messages arrive in the order in
//! which they were published. A client for the whole cluster offers none of these.

use redis::{ErrorKind, RedisResult, aio::MultiplexedConnection};

use crate::{primary::PrimaryAnswer, url::HostPort};

const SLOTS: u16 = 16_384;

/// The slot of keys with this hash tag.
pub(crate) fn slot(tag: &str) -> u16 {
    // CRC16 with the polynomial of XMODEM.
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// Asks for the primary that has the slot. `asked` is the address of the server that is asked.
pub(crate) async fn owner(
    connection: &mut MultiplexedConnection,
    slot: u16,
    asked: &HostPort,
    tls: bool,
) -> RedisResult<PrimaryAnswer> {
    let nodes: String = redis::cmd("CLUSTER").arg("NODES").query_async(connection).await?;
    nodes
        .lines()
        .find_map(|line| read(line, slot, asked, tls))
        .ok_or_else(|| (ErrorKind::Client, "no server of the cluster has the slot").into())
}

/// Reads a line of `CLUSTER NODES`. Returns the server if it is the primary that has the slot.
fn read(line: &str, slot: u16, asked: &HostPort, tls: bool) -> Option<PrimaryAnswer> {
    // id, ip:port@bus[,hostname], flags, primary, ping, pong, epoch, link, slots…
    let mut words = line.split(' ');
    let (address, flags) = (words.nth(1)?, words.next()?);
    let flag = |name: &str| flags.split(',').any(|flag| flag == name);
    if !flag("master") || flag("fail") || flag("noaddr") || flag("handshake") {
        return None;
    }
    let epoch = words.nth(3)?.parse().ok()?;
    let has = words.skip(1).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u16>(), last.parse::<u16>());
        first.is_ok_and(|first| first <= slot) && last.is_ok_and(|last| slot <= last)
    });
    let mut parts = address.split(',');
    let (ip, port) = parts.next()?.split_once('@')?.0.rsplit_once(':')?;
    // TLS needs the host name that is in the certificate.
    let name = parts.next().filter(|name| tls && !name.is_empty() && !name.contains('='));
    let host = match name.unwrap_or(ip) {
        // A server may not know its own address yet.
        "" if flag("myself") => &asked.host,
        "" => return None,
        host => host,
    };
    let address = HostPort { host: host.to_owned(), port: port.parse().ok()? };
    has.then_some(PrimaryAnswer { address, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The answers of Redis 7 to `CLUSTER KEYSLOT`.
        for (tag, expected) in [("123456789", 0x31C3), ("foo", 12_182), ("bar", 5061)] {
            assert_eq!(slot(tag), expected, "{tag}");
        }
    }

    #[test]
    fn the_primary_of_a_slot_is_found_in_the_answer_of_a_server() {
        let asked = HostPort { host: "asked".to_owned(), port: 7000 };
        let found = |line: &str, slot, tls| {
            read(line, slot, &asked, tls).map(|it| (it.address.to_string(), it.epoch))
        };
        let at = |address: &str, epoch| Some((address.to_owned(), epoch));
        let line = "07c3 10.0.0.4:7004@17004,host4 master - 0 1426238317239 4 connected 5-9 20";
        for (slot, tls, expected) in [
            (5, false, at("10.0.0.4:7004", 4)),
            (9, true, at("host4:7004", 4)),
            (20, false, at("10.0.0.4:7004", 4)),
            (10, false, None),
            (4, false, None),
        ] {
            assert_eq!(found(line, slot, tls), expected, "{slot}");
        }
        let own = "07c3 :7004@17004 myself,master - 0 0 1 connected 0-16383";
        assert_eq!(found(own, 1, false), at("asked:7004", 1));
        let six = "07c3 ::1:7004@17004 master - 0 0 1 connected 0-16383 [93-<-292f]";
        assert_eq!(found(six, 1, false), at("[::1]:7004", 1));
        for none in [
            "",
            "07c3",
            "07c3 10.0.0.4:7004@17004 slave e7d1 0 1 4 connected 0-16383",
            "07c3 10.0.0.4:7004@17004 master,fail - 0 1 4 connected 0-16383",
            "07c3 :0@0 master,noaddr - 0 1 4 disconnected 0-16383",
            "07c3 10.0.0.4@x master - 0 1 4 connected 0-16383",
            "07c3 10.0.0.4:7004@17004 master - 0 1 x connected 0-16383",
        ] {
            assert_eq!(found(none, 1, false), None, "{none}");
        }
    }
}
