//! TCP ports that stay ours over a server's restart.

use std::fs::{DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;

use anyhow::{Context as _, bail};
use rand::Rng as _;

use crate::folder;

/// Below the range from which Linux gives out ports by itself (32768 and up), so that no outgoing
/// connection takes the port while its server is down.
const FIRST: u16 = 23_000;
const LAST: u16 = 26_999;

/// A free port on 127.0.0.1, reserved among all sandboxes of this user until dropped.
///
/// Others can still take it: whoever binds it has to be ready to try another.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Held, not read: closing the file gives the lock up.
    _lock: File,
}

impl Port {
    /// Reserves a port that nobody listens on now.
    ///
    /// # Errors
    /// When the lock files cannot be made, or no free port was found in 1,000 tries.
    pub fn lease() -> anyhow::Result<Self> {
        let locks = folder::base()?.join("ports");
        DirBuilder::new().recursive(true).mode(0o700).create(&locks)?;
        for _ in 0..1_000 {
            let number = rand::rng().random_range(FIRST..=LAST);
            let lock = File::create(locks.join(number.to_string()))
                .context("cannot make a port's lock file")?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {LAST}")
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
