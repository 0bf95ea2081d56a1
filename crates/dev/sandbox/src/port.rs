//! TCP ports that stay reserved while a server restarts.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;

use anyhow::{Context as _, bail};
use rand::Rng as _;

use crate::folder;

/// Below 32768, where the range begins from which Linux assigns ports, so that no outgoing connection takes the port
/// while its server is down.
const FIRST: u16 = 23_000;
const LAST: u16 = 26_999;

/// A free port on 127.0.0.1, reserved among all sandboxes of this user until dropped.
///
/// Other programs can still take it. A server that cannot bind it uses another port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Held only for the lock, which is released when the file is closed.
    _lock: File,
}

impl Port {
    /// Reserves a port on which nothing listens.
    ///
    /// # Errors
    /// The lock files cannot be made, or no free port was found in 1,000 tries.
    pub fn lease() -> anyhow::Result<Self> {
        for _ in 0..1_000 {
            let number = rand::rng().random_range(FIRST..=LAST);
            if let Ok(Some(port)) = Self::take(Ipv4Addr::LOCALHOST.into(), number) {
                return Ok(port);
            }
        }
        bail!("no free port between {FIRST} and {LAST}")
    }

    /// Reserves this port; `None` if a program listens on it or another sandbox has reserved it.
    ///
    /// # Errors
    /// Its lock file cannot be made, or the address cannot be listened on for another reason.
    pub fn take(host: IpAddr, number: u16) -> anyhow::Result<Option<Self>> {
        let lock = lock_file(number)?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let address = SocketAddr::from((host, number));
        match TcpListener::bind(address) {
            Ok(_) => Ok(Some(Self { number, _lock: lock })),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
        }
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

fn lock_file(number: u16) -> anyhow::Result<File> {
    let locks = folder::base()?.join("ports");
    DirBuilder::new().recursive(true).mode(0o700).create(&locks)?;
    File::create(locks.join(number.to_string())).context("cannot make a port's lock file")
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("another process has taken the server's port")]
    AddressInUse,
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}
